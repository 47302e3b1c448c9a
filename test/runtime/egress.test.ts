import { createServer, type RequestListener, type Server } from 'node:http'
import { type AddressInfo, createConnection, type LookupFunction, type Socket } from 'node:net'
import type { buildConnector } from 'undici'
import { afterEach, describe, expect, it } from 'vitest'
import { type EgressOptions, egress } from '../../src/runtime/egress.ts'
import { whyPostFailed } from '../../src/runtime/post-failure.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A connector that never sends a packet: it asks the lookup it was given, notes the answer, and fails. */
function noPackets(): { connect: NonNullable<EgressOptions['connect']>; reached: string[] } {
  const reached: string[] = []
  const connect =
    ({ lookup }: { lookup: LookupFunction }): buildConnector.connector =>
    ({ hostname }, callback) => {
      if (/^[\d.]+$|:/.test(hostname)) {
        reached.push(hostname)
        callback(new Error('no packet leaves the test'), null)
        return
      }
      lookup(hostname, { all: true }, (error, found) => {
        if (!error && Array.isArray(found)) reached.push(...found.map(({ address }) => address))
        callback(error ?? new Error('no packet leaves the test'), null)
      })
    }
  return { connect, reached }
}

function open(options: EgressOptions): ReturnType<typeof egress> {
  const opened = egress(options)
  cleanups.push(() => opened.close())
  return opened
}

async function listen(answer: RequestListener): Promise<{ port: number; server: Server }> {
  const server = createServer(answer)
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  cleanups.push(
    () =>
      new Promise((done) => {
        server.close(done)
        server.closeAllConnections()
      }),
  )
  return { port: (server.address() as AddressInfo).port, server }
}

/** An answered connection is free again a turn of the event loop later. */
const aTurn = (): Promise<void> => new Promise((done) => setImmediate(done))

const form = {
  headers: { 'content-type': 'application/x-www-form-urlencoded' },
  body: async () => 'logout_token=secret.token',
  timeout: 2_000,
}

describe('where a POST may go', () => {
  it.each([
    'https://127.0.0.1/',
    'https://2130706433/',
    'https://0x7f000001/',
    'https://0177.0.0.1/',
    'https://127.1/',
    'https://0/',
    'https://[::1]/',
    'https://[::ffff:127.0.0.1]/',
    'https://[64:ff9b::a9fe:a9fe]/',
    'https://[2002:7f00:1::]/',
    'https://[fd00::1]/',
    'https://[fe80::1]/',
    'https://169.254.169.254/latest/meta-data',
    'https://100.64.0.1/',
    'https://10.0.0.1/',
    'http://8.8.8.8/',
  ])('never leads to the literal %s [T25]', async (url) => {
    const { connect, reached } = noPackets()
    const { post } = open({ allow: [], connect })
    await expect(post({ url, ...form })).rejects.toMatchObject({ code: 'egress_refused' })
    expect(reached).toEqual([])
  })

  it('never leads to a name that has only addresses inside [T25]', async () => {
    const { connect, reached } = noPackets()
    const { post } = open({
      allow: [],
      connect,
      resolve: async () => [
        { address: '10.0.0.1', family: 4 },
        { address: '::1', family: 6 },
      ],
    })
    const failure = await post({ url: 'https://rp.example/logout', ...form }).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'egress_refused' })
    expect(whyPostFailed(failure)).toBe('egress')
    expect(String(failure)).toContain('"rp.example"')
    expect(String(failure)).toContain('egress.allow')
    expect(String(failure)).not.toContain('secret.token')
    expect(String(failure)).not.toContain('10.0.0.1')
    expect(reached).toEqual([])
  })

  it('connects only to the public ones among mixed answers [T25]', async () => {
    const { connect, reached } = noPackets()
    const { post } = open({
      allow: [],
      connect,
      resolve: async () => [
        { address: '127.0.0.1', family: 4 },
        { address: '8.8.8.8', family: 4 },
        { address: '::ffff:10.0.0.1', family: 6 },
        { address: '2606:4700::1111', family: 6 },
      ],
    })
    await expect(post({ url: 'https://rp.example/', ...form })).rejects.toThrow('no packet leaves the test')
    expect(reached).toEqual(['8.8.8.8', '2606:4700::1111'])
  })

  it('asks the resolver once per connection, so that a second answer cannot slip through [T25]', async () => {
    const answers = [[{ address: '8.8.8.8', family: 4 }], [{ address: '127.0.0.1', family: 4 }]]
    const { connect, reached } = noPackets()
    const { post } = open({ allow: [], connect, resolve: async () => answers.shift() ?? [] })
    await expect(post({ url: 'https://rp.example/', ...form })).rejects.toThrow('no packet leaves the test')
    await expect(post({ url: 'https://rp.example/', ...form })).rejects.toMatchObject({ code: 'egress_refused' })
    expect(reached).toEqual(['8.8.8.8'])
  })

  it('closes a connection that ended up elsewhere than it was sent to [T25]', async () => {
    let served = 0
    const { port } = await listen((_, response) => {
      served += 1
      response.end()
    })
    let peer: Socket | undefined
    const { post } = open({
      allow: [],
      resolve: async () => [{ address: '8.8.8.8', family: 4 }],
      connect: () => (_, callback) => {
        const socket = createConnection(port, '127.0.0.1', () => callback(null, socket))
        peer = socket
      },
    })
    await expect(post({ url: 'https://rp.example/', ...form })).rejects.toMatchObject({ code: 'egress_refused' })
    expect(peer?.destroyed).toBe(true)
    expect(served).toBe(0)
  })

  it('speaks HTTP/1.1 only, also where the other side would rather not', () => {
    const offered: boolean[] = []
    open({
      allow: [],
      connect: ({ allowH2 }) => {
        offered.push(allowH2)
        return () => {}
      },
    })
    expect(new Set(offered)).toEqual(new Set([false]))
  })

  it('says that a name has no address', async () => {
    const { connect } = noPackets()
    const { post } = open({ allow: [], connect, resolve: async () => [] })
    const failure = await post({ url: 'https://rp.example/', ...form }).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'ENOTFOUND' })
    expect(whyPostFailed(failure)).toBe('network')
  })

  it('takes no proxy from the environment [T25]', async () => {
    let proxied = 0
    const proxy = await listen((_, response) => {
      proxied += 1
      response.end()
    })
    const { port } = await listen((_, response) => response.end('direct'))
    const names = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'ALL_PROXY', 'NODE_USE_ENV_PROXY'] as const
    const before = names.map((name) => process.env[name])
    for (const name of names) process.env[name] = name === 'NODE_USE_ENV_PROXY' ? '1' : `http://127.0.0.1:${proxy.port}`
    try {
      const { post } = open({ allow: ['127.0.0.1'] })
      expect((await post({ url: `http://127.0.0.1:${port}/`, ...form })).body).toBe('direct')
      expect(proxied).toBe(0)
    } finally {
      for (const [i, name] of names.entries()) {
        if (before[i] === undefined) delete process.env[name]
        else process.env[name] = before[i]
      }
    }
  })
})

describe('a POST to an allowed address', () => {
  it('sends the form and brings status, headers and body back', async () => {
    let received = ''
    const { port } = await listen((request, response) => {
      request.setEncoding('utf8')
      request.on('data', (chunk: string) => {
        received += chunk
      })
      request.on('end', () => {
        response.writeHead(400, { 'Content-Type': 'application/json', 'Retry-After': '7', 'X-Two': ['a', 'b'] })
        response.end('{"error":"invalid_request"}')
      })
    })
    const { post } = open({ allow: ['127.0.0.0/8'] })
    const answer = await post({ url: `http://127.0.0.1:${port}/logout`, ...form })
    expect(received).toBe('logout_token=secret.token')
    expect(answer.status).toBe(400)
    expect(answer.headers).toMatchObject({ 'content-type': 'application/json', 'retry-after': '7', 'x-two': 'a, b' })
    expect(answer.body).toBe('{"error":"invalid_request"}')
  })

  it('reaches an allowed host name by whatever address it resolves to', async () => {
    const { port } = await listen((_, response) => response.end('here'))
    const { post } = open({ allow: ['rp.internal'], resolve: async () => [{ address: '127.0.0.1', family: 4 }] })
    expect((await post({ url: `http://rp.internal:${port}/`, ...form })).body).toBe('here')
  })

  it('follows no redirect', async () => {
    let hits = 0
    const { port } = await listen((_, response) => {
      hits += 1
      response.writeHead(307, { location: '/again' }).end()
    })
    const { post } = open({ allow: ['127.0.0.1'] })
    expect((await post({ url: `http://127.0.0.1:${port}/`, ...form })).status).toBe(307)
    expect(hits).toBe(1)
  })

  it('reads four kilobytes of a body and leaves the rest, also when it never ends', async () => {
    const { port } = await listen((_, response) => {
      response.writeHead(200)
      const more = (): void => {
        while (response.write('x'.repeat(16_384)));
        response.once('drain', more)
      }
      more()
    })
    const { post } = open({ allow: ['127.0.0.1'] })
    const answer = await post({ url: `http://127.0.0.1:${port}/`, ...form })
    expect(answer.status).toBe(200)
    expect(answer.body).toBe('x'.repeat(4096))
  })

  it('takes the status for the answer when the body breaks off', async () => {
    const { port } = await listen((_, response) => {
      response.writeHead(200, { 'content-length': '100' })
      response.write('half', () => response.destroy())
    })
    const { post } = open({ allow: ['127.0.0.1'] })
    expect(await post({ url: `http://127.0.0.1:${port}/`, ...form })).toMatchObject({ status: 200, body: 'half' })
  })

  it('gives up after the time-out', async () => {
    const { port } = await listen(() => {})
    const { post } = open({ allow: ['127.0.0.1'] })
    const failure = await post({ url: `http://127.0.0.1:${port}/`, ...form, timeout: 50 }).catch(
      (error: unknown) => error,
    )
    expect(whyPostFailed(failure)).toBe('timeout')
  })

  it('stops when it is told to', async () => {
    const stop = new AbortController()
    const { port } = await listen(() => stop.abort(new Error('told to stop')))
    const { post } = open({ allow: ['127.0.0.1'] })
    await expect(post({ url: `http://127.0.0.1:${port}/`, ...form, signal: stop.signal })).rejects.toThrow(
      'told to stop',
    )
  })

  it('tells a refused connection from a kept-open one that was closed meanwhile', async () => {
    let requests = 0
    const { port, server } = await listen((request, response) => {
      requests += 1
      if (requests === 1) response.end()
      else request.socket.resetAndDestroy()
    })
    const { post } = open({ allow: ['127.0.0.1'] })
    const send = (): Promise<unknown> =>
      post({ url: `http://127.0.0.1:${port}/`, ...form }).catch((error: unknown) => error)
    await send()
    await aTurn()
    expect(whyPostFailed(await send())).toBe('stale')
    expect(whyPostFailed(await send())).toBe('network') // a fresh connection, reset at once
    await new Promise((done) => {
      server.close(done)
      server.closeAllConnections()
    })
    expect(whyPostFailed(await send())).toBe('network')
  })

  it('keeps connections open and uses them again', async () => {
    let connections = 0
    const { port, server } = await listen((_, response) => response.end())
    server.on('connection', () => {
      connections += 1
    })
    const { post } = open({ allow: ['127.0.0.1'] })
    for (let i = 0; i < 5; i++) {
      await post({ url: `http://127.0.0.1:${port}/`, ...form })
      await aTurn()
    }
    expect(connections).toBe(1)
  })
})

describe('the fetch that oidc-provider is given', () => {
  it('gets a document with the headers it was given', async () => {
    const { port } = await listen((request, response) => {
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ accept: request.headers.accept, method: request.method }))
    })
    const { fetch } = open({ allow: ['127.0.0.1'] })
    const response = await fetch(`http://127.0.0.1:${port}/jwks`, {
      headers: new Headers({ accept: 'application/json' }),
    })
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/json')
    expect(await response.json()).toEqual({ accept: 'application/json', method: 'GET' })
  })

  it('follows no redirect and refuses what the policy refuses [T25]', async () => {
    const { port } = await listen((_, response) =>
      response.writeHead(302, { location: 'http://169.254.169.254/' }).end(),
    )
    const { fetch } = open({ allow: ['127.0.0.1'] })
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(302)
    await expect(fetch('https://169.254.169.254/')).rejects.toMatchObject({ code: 'egress_refused' })
  })

  it('answers 204 without a body', async () => {
    const { port } = await listen((_, response) => response.writeHead(204).end())
    const { fetch } = open({ allow: ['127.0.0.1'] })
    const response = await fetch(new URL(`http://127.0.0.1:${port}/`), {
      method: 'POST',
      body: new URLSearchParams({ a: '1' }),
    })
    expect(response.status).toBe(204)
    expect(await response.text()).toBe('')
  })
})

describe('the way of a POST', () => {
  it('says when it had a connection, new or kept open, and when the head of the answer came', async () => {
    const { port } = await listen((request, response) => {
      request.resume()
      response.writeHead(200).flushHeaders()
      seen.push('answer')
      response.end()
    })
    const seen: string[] = []
    const { post } = open({ allow: ['127.0.0.1'] })
    const watched = {
      ...form,
      url: `http://127.0.0.1:${port}/`,
      onConnected: () => seen.push('connected'),
      onAnswered: () => seen.push('answered'),
    }
    for (let i = 0; i < 2; i++) {
      await post(watched)
      expect(seen.splice(0)).toEqual(['connected', 'answer', 'answered'])
      await aTurn()
    }
  })

  it('says of an RP that takes the connection and stays silent that it was connected', async () => {
    const { port } = await listen(() => {})
    const seen: string[] = []
    const { post } = open({ allow: ['127.0.0.1'] })
    const failed = post({
      ...form,
      timeout: 300,
      url: `http://127.0.0.1:${port}/`,
      onConnected: () => seen.push('connected'),
      onAnswered: () => seen.push('answered'),
    })
    await expect(failed).rejects.toThrow()
    expect(seen).toEqual(['connected'])
  })

  it('says nothing of what got no connection', async () => {
    const { connect } = noPackets()
    const { post } = open({ allow: [], connect })
    const seen: string[] = []
    const failed = post({ ...form, url: 'https://192.0.2.1/', onConnected: () => seen.push('connected') })
    await expect(failed).rejects.toThrow()
    expect(seen).toEqual([])
  })
})
