import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { runInNewContext } from 'node:vm'
import { gzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { checkSessionIframe } from '../src/op/check-session-iframe.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const served = (file: string): string => readFileSync(`${root}dist/served/${file}`, 'utf8')
const gzipped = (text: string): number => gzipSync(text, { level: 9 }).length

beforeAll(() => {
  execFileSync(process.execPath, [`${root}scripts/build-served.mjs`])
})

describe('what browsers load', () => {
  it('is at most 3 kB for the session monitor, gzipped', () => {
    expect(gzipped(served('session-monitor.js'))).toBeLessThanOrEqual(3_000)
  })

  it('is at most 1 kB for the page of the OP iframe with its script, gzipped', () => {
    const noBody = () => Promise.reject(new Error('no body'))
    const request = {
      method: 'GET',
      path: '/',
      query: new URLSearchParams(),
      header: () => 'cross-site',
      form: noBody,
      json: noBody,
    }
    const { body } = checkSessionIframe(request, { cookie: '__Host-lockstep.browser-state', path: '/session/check' })
    expect(gzipped(body)).toBeLessThanOrEqual(1_000)
  })

  it.each([
    'session-monitor.js',
    'op-iframe.js',
    'logout-page.js',
  ])('holds nothing of a server and no path of a machine: %s', (file) => {
    for (const name of [
      'node:',
      'jose',
      'oidc-provider',
      'src/',
      'sourceMappingURL',
      'import(',
      'eval(',
      'Function(',
    ]) {
      expect(served(file)).not.toContain(name)
    }
  })

  it('reads the attributes of the page it stands in by their names', async () => {
    const asked: string[] = []
    const page = new EventTarget()
    const said = new Promise<string>((resolve) => {
      const status = { data: 'notes hash.salt', origin: 'https://notes.example', source: { postMessage: resolve } }
      runInNewContext(served('op-iframe.js'), {
        window: page,
        document: {
          documentElement: { dataset: { site: 'same-site', cookie: 'state', check: '/op/check' } },
          cookie: 'state=1',
        },
        fetch: async (url: string) => {
          asked.push(url)
          return { status: 204 }
        },
        crypto,
        btoa,
        TextEncoder,
        Uint8Array,
        Map,
      })
      page.dispatchEvent(Object.assign(new Event('message'), status))
    })
    expect(await said).toBe('changed')
    expect(asked).toEqual(['/op/check'])
  })

  it('may be written into a page as it is', () => {
    expect(served('op-iframe.js')).not.toMatch(/<\/script|<!--/i)
  })
})
