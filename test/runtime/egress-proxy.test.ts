import { createServer, type IncomingMessage } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, connect as dial, type Socket } from 'node:net'
import { buildConnector } from 'undici'
import { afterEach, describe, expect, it } from 'vitest'
import { type EgressOptions, egress } from '../../src/runtime/egress.ts'
import { whyPostFailed } from '../../src/runtime/post-failure.ts'
import { selfSigned } from '../support/self-signed.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const form = {
  headers: { 'content-type': 'application/x-www-form-urlencoded' },
  body: async () => 'logout_token=secret.token',
  timeout: 5_000,
}

/** A CONNECT proxy on loopback: it notes what it is asked for, and leads everything to one port of this machine. */
async function startProxy(answer: (target: string) => number = () => 200, to = 0) {
  const asked: string[] = []
  const authorizations: (string | undefined)[] = []
  const sockets = new Set<Socket>()
  const server = createServer((_, response) => response.writeHead(405).end())
  server.on('connect', (request: IncomingMessage, client: Socket) => {
    sockets.add(client)
    client.on('error', () => {})
    asked.push(request.url ?? '')
    authorizations.push(request.headers['proxy-authorization'])
    const status = answer(request.url ?? '')
    if (status !== 200) {
      client.end(`HTTP/1.1 ${status} no\r\ncontent-length: 0\r\n\r\n`)
      return
    }
    const target = dial(to, '127.0.0.1', () => {
      client.write('HTTP/1.1 200 OK\r\n\r\n')
      target.pipe(client).pipe(target)
    })
    sockets.add(target)
    target.on('error', () => client.destroy())
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy()
    await new Promise((done) => server.close(done))
  })
  const { port } = server.address() as AddressInfo
  return { url: new URL(`http://127.0.0.1:${port}`), asked, authorizations }
}

/** An RP behind TLS, whose certificate is for localhost; its answer says what it was asked. */
async function startRp() {
  const { key, cert } = selfSigned()
  const seen: { servername: unknown; host: string | undefined }[] = []
  const server = createTlsServer({ key, cert }, (request, response) => {
    seen.push({ servername: (request.socket as { servername?: unknown }).servername, host: request.headers.host })
    response.end('told')
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  cleanups.push(
    () =>
      new Promise((done) => {
        server.close(done)
        server.closeAllConnections()
      }),
  )
  return { port: (server.address() as AddressInfo).port, cert, seen }
}

function open(options: EgressOptions): ReturnType<typeof egress> {
  const opened = egress(options)
  cleanups.push(() => opened.close())
  return opened
}

const trusting =
  (ca: string): NonNullable<EgressOptions['connect']> =>
  (options) =>
    buildConnector({ ...options, ca })

const publicAddress = async () => [{ address: '93.184.216.34', family: 4 }]

describe('an egress proxy', () => {
  it('is told the address that was judged here, and TLS inside is with the name [T25]', async () => {
    const rp = await startRp()
    const proxy = await startProxy(() => 200, rp.port)
    const { post } = open({ allow: [], proxy: proxy.url, resolve: publicAddress, connect: trusting(rp.cert) })
    const answer = await post({ url: 'https://localhost:8443/logout', ...form })
    expect(answer).toMatchObject({ status: 200, body: 'told' })
    expect(proxy.asked).toEqual(['93.184.216.34:8443'])
    expect(rp.seen).toEqual([{ servername: 'localhost', host: 'localhost:8443' }])
  })

  it('cannot pass off another server as the one that was named [T25]', async () => {
    const rp = await startRp()
    const proxy = await startProxy(() => 200, rp.port)
    const { post } = open({ allow: [], proxy: proxy.url, resolve: publicAddress, connect: trusting(rp.cert) })
    await expect(post({ url: 'https://other.example/', ...form })).rejects.toMatchObject({
      code: 'ERR_TLS_CERT_ALTNAME_INVALID',
    })
    expect(rp.seen).toEqual([])
  })

  it.each([
    'https://10.0.0.1/',
    'https://[::1]/',
    'https://[::ffff:169.254.169.254]/',
    'http://93.184.216.34/',
    'https://inside.example/',
  ])('is never asked for %s, which leads inside [T25]', async (url) => {
    const proxy = await startProxy()
    const { post } = open({ allow: [], proxy: proxy.url, resolve: async () => [{ address: '10.0.0.1', family: 4 }] })
    await expect(post({ url, ...form })).rejects.toMatchObject({ code: 'egress_refused' })
    expect(proxy.asked).toEqual([])
  })

  it('carries jwks_uri and sector_identifier_uri too: whatever fetch gets [T25]', async () => {
    const rp = await startRp()
    const proxy = await startProxy(() => 200, rp.port)
    const { fetch } = open({ allow: [], proxy: proxy.url, resolve: publicAddress, connect: trusting(rp.cert) })
    expect(await (await fetch('https://localhost/jwks')).text()).toBe('told')
    await expect(fetch('https://127.0.0.1/jwks')).rejects.toMatchObject({ code: 'egress_refused' })
    expect(proxy.asked).toEqual(['93.184.216.34:443'])
  })

  it('is asked for the next address of a name when it does not reach the first', async () => {
    const rp = await startRp()
    const proxy = await startProxy((target) => (target.startsWith('[') ? 502 : 200), rp.port)
    const resolve = async () => [{ address: '2606:4700::1111', family: 6 }, ...(await publicAddress())]
    const { post } = open({ allow: [], proxy: proxy.url, resolve, connect: trusting(rp.cert) })
    expect((await post({ url: 'https://localhost/', ...form })).status).toBe(200)
    expect(proxy.asked).toEqual(['[2606:4700::1111]:443', '93.184.216.34:443'])
  })

  it('takes plain http to an allowed host through a tunnel as well', async () => {
    const plain = createServer((_, response) => response.end('plain'))
    await new Promise<void>((done) => plain.listen(0, '127.0.0.1', done))
    cleanups.push(() => new Promise((done) => plain.close(done).closeAllConnections()))
    const proxy = await startProxy(() => 200, (plain.address() as AddressInfo).port)
    const { post } = open({ allow: ['10.0.0.0/8'], proxy: proxy.url })
    expect((await post({ url: 'http://10.1.2.3/logout', ...form })).body).toBe('plain')
    expect(proxy.asked).toEqual(['10.1.2.3:80'])
  })

  it('gets the user and password of its URL, and no message shows them', async () => {
    const proxy = await startProxy(() => 407)
    proxy.url.username = 'op'
    proxy.url.password = 'hush%3A!'
    const { post } = open({ allow: [], proxy: proxy.url, resolve: publicAddress })
    const failure = await post({ url: 'https://localhost/', ...form }).catch((error: unknown) => error)
    expect(proxy.authorizations).toEqual([`Basic ${Buffer.from('op:hush:!').toString('base64')}`])
    expect(failure).toMatchObject({ code: 'EGRESS_PROXY_FAILED' })
    expect(String(failure)).toContain('407')
    expect(String(failure)).not.toContain('hush')
    expect(whyPostFailed(failure)).toBe('network')
  })

  it('that is not there fails the attempt, once and at once', async () => {
    const proxy = await startProxy()
    for (const cleanup of cleanups.splice(0)) await cleanup()
    const { post } = open({ allow: [], proxy: proxy.url, resolve: publicAddress })
    const failure = await post({ url: 'https://localhost/', ...form }).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'EGRESS_PROXY_FAILED' })
    expect(whyPostFailed(failure)).toBe('network')
  })

  it('that never answers costs an attempt no more than its time-out', async () => {
    const proxy = await startProxy(() => 200, 1)
    const silent = createServer()
    silent.on('connect', (_request, socket: Socket) => cleanups.push(async () => socket.destroy()))
    await new Promise<void>((done) => silent.listen(0, '127.0.0.1', done))
    cleanups.push(async () => void silent.close())
    proxy.url.port = String((silent.address() as AddressInfo).port)
    const { post } = open({ allow: [], proxy: proxy.url, resolve: publicAddress })
    const failure = await post({ url: 'https://localhost/', ...form, timeout: 100 }).catch((error: unknown) => error)
    expect(whyPostFailed(failure)).toBe('timeout')
  })

  it('that enforces the rules itself is told names, which are not looked up here [T25]', async () => {
    const rp = await startRp()
    const proxy = await startProxy(() => 200, rp.port)
    const resolve = async (): Promise<never> => {
      throw new Error('looked up')
    }
    const { post } = open({ allow: [], proxy: proxy.url, proxyEnforces: true, resolve, connect: trusting(rp.cert) })
    expect((await post({ url: 'https://localhost/', ...form })).status).toBe(200)
    expect(proxy.asked).toEqual(['localhost:443'])
    await expect(post({ url: 'http://localhost/', ...form })).rejects.toMatchObject({ code: 'egress_refused' })
    await expect(post({ url: 'https://127.0.0.1/', ...form })).rejects.toMatchObject({ code: 'egress_refused' })
    expect(proxy.asked).toHaveLength(1)
  })
})
