import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { answer, type RpAnswer, type RpRequest } from './http.ts'

interface ServedFile {
  readonly body: Buffer
  readonly etag: string
}

let served: Promise<ServedFile> | undefined

/** Serves the session monitor ready-made, so that a page needs one script tag and no build. */
export async function serveSessionMonitor(request: RpRequest): Promise<RpAnswer> {
  served ??= read()
  const { body, etag } = await served.catch((error) => {
    served = undefined
    throw error
  })
  const headers = { 'content-type': 'text/javascript; charset=utf-8', 'cache-control': 'no-cache', etag }
  const isKnown = request.header('if-none-match')?.includes(etag) === true
  return isKnown ? answer(304, '', { 'cache-control': 'no-cache', etag }) : answer(200, body, headers)
}

async function read(): Promise<ServedFile> {
  const body = await readFile(createRequire(import.meta.url).resolve('#served/session-monitor.js'))
  return { body, etag: `"${createHash('sha256').update(body).digest('base64url').slice(0, 16)}"` }
}
