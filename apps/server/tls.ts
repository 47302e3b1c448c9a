import { readFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { ServerConfig } from './config.ts'
import { ConfigError } from './config-error.ts'

/** The server of a configuration: with `tls` it speaks TLS 1.2 and 1.3 itself. */
export function serverOf(config: ServerConfig, listener: RequestListener): Server {
  const { tls, source } = config
  if (!tls) return createServer(listener)
  const [cert, key] = [read(config, 'cert', tls.cert), read(config, 'key', tls.key)]
  try {
    return createTlsServer({ cert, key, minVersion: 'TLSv1.2' }, listener)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new ConfigError(
      `${source}: "tls" cannot be used: ${why}. Write the PEM files of a certificate and of its own private key.`,
      { cause },
    )
  }
}

function read({ source }: ServerConfig, name: 'cert' | 'key', file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown error'
    throw new ConfigError(
      `${source}: "tls.${name}" cannot be read at ${file} (${code}). Write the path of a PEM file.`,
      {
        cause,
      },
    )
  }
}
