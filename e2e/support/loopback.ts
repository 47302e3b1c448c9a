import { execFileSync } from 'node:child_process'
import dns from 'node:dns'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'

/** A key and a certificate for names of this machine. */
export interface Certificate {
  readonly key: string
  readonly cert: string
}

/**
 * Makes a certificate for these names, and this process believe it. WebKit takes no `Secure` cookie over plain http, so
 * the stage is https; browsers are told to accept what they do not know.
 */
export function certify(names: readonly string[]): Certificate {
  const folder = mkdtempSync(join(tmpdir(), 'lockstep-tls-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  const options = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=lockstep'.split(
    ' ',
  )
  const alternatives = `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`
  execFileSync('openssl', [...options, '-keyout', key, '-out', cert, '-addext', alternatives], { stdio: 'pipe' })
  const made = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') }
  rmSync(folder, { recursive: true })
  setDefaultCACertificates([...getCACertificates('default'), made.cert])
  return made
}

/**
 * Makes `*.localhost` mean this machine in this process, as it does in browsers: not every system's resolver knows
 * (RFC 6761 §6.3 only says that it should).
 */
export function resolveLocalhost(): void {
  const here = (host: unknown) => (typeof host === 'string' && host.endsWith('.localhost') ? '127.0.0.1' : host)
  for (const resolver of [dns, dns.promises]) {
    const { lookup } = resolver
    Object.assign(resolver, {
      lookup: (host: unknown, ...rest: unknown[]) => Reflect.apply(lookup, resolver, [here(host), ...rest]),
    })
  }
  syncBuiltinESMExports()
}
