import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, connect as dial } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type EgressOptions, egress } from '../../src/runtime/egress.ts'
import { whyPostFailed } from '../../src/runtime/post-failure.ts'

const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function listen(answer: RequestListener) {
  const server = createServer(answer)
  let connections = 0
  server.on('connection', () => {
    connections += 1
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  cleanups.push(
    () =>
      new Promise((done) => {
        server.close(done)
        server.closeAllConnections()
      }),
  )
  const { port } = server.address() as AddressInfo
  return { port, url: `http://127.0.0.1:${port}/`, connections: () => connections }
}

function open(options: Partial<EgressOptions> = {}): ReturnType<typeof egress> {
  const opened = egress({ allow: ['127.0.0.1'], ...options })
  cleanups.push(() => opened.close())
  return opened
}

const form = { headers: {}, body: async () => 'logout_token=x', timeout: 10_000 }
const aTurn = (): Promise<void> => new Promise((done) => setImmediate(done))

describe('an answer that means harm', () => {
  it('drips and holds the attempt no longer than its time-out', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }) // its time is over when the test says so
    cleanups.push(async () => void vi.useRealTimers())
    const dripped = Promise.withResolvers<void>()
    const { url } = await listen((_, response) => {
      response.writeHead(200)
      const drip = setInterval(() => response.write('x', () => dripped.resolve()), 20)
      response.on('close', () => clearInterval(drip))
    })
    const headCame = Promise.withResolvers<void>()
    const answer = open().post({ url, ...form, onAnswered: () => headCame.resolve() })
    await Promise.all([headCame.promise, dripped.promise])
    for (let i = 0; i < 5; i++) await aTurn() // what was written is read
    vi.advanceTimersByTime(form.timeout)
    expect((await answer).status).toBe(200)
    expect((await answer).body).toMatch(/^x+$/)
  })

  it('drips its head and runs into the time-out', async () => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {})
      socket.write('HTTP/1.1 200 OK\r\n')
      const drip = setInterval(() => socket.write('x: y\r\n'), 20)
      socket.on('close', () => clearInterval(drip))
    })
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    cleanups.push(async () => void server.close())
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    const failure = await open()
      .post({ url, ...form, timeout: 300 })
      .catch((error: unknown) => error)
    expect(whyPostFailed(failure)).toBe('timeout')
  })

  it('is a gzip bomb and stays packed', async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000))
    const { url } = await listen((_, response) => {
      response.writeHead(400, { 'content-type': 'application/json', 'content-encoding': 'gzip' })
      response.end(bomb)
    })
    const answer = await open().post({ url, ...form })
    expect(answer.status).toBe(400)
    expect(Buffer.byteLength(answer.body, 'latin1')).toBeLessThanOrEqual(4096)
  })

  it('floods with headers and is refused', async () => {
    const { url } = await listen((_, response) => {
      for (let i = 0; i < 1000; i++) response.setHeader(`x-${i}`, 'y'.repeat(100))
      response.end()
    })
    const failure = await open()
      .post({ url, ...form })
      .catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'UND_ERR_HEADERS_OVERFLOW' })
    expect(whyPostFailed(failure)).toBe('network')
  })

  it('sends informational answers without end and runs into the time-out', async () => {
    const server = createTcpServer((socket) => {
      socket.on('error', () => {})
      const drip = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n'), 20)
      socket.on('close', () => clearInterval(drip))
    })
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    cleanups.push(async () => void server.close())
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    const failure = await open()
      .post({ url, ...form, timeout: 300 })
      .catch((error: unknown) => error)
    expect(whyPostFailed(failure)).toBe('timeout')
  })
})

describe('a connection that does not come about', () => {
  it('costs an attempt no more than its time-out, and its request is never sent', async () => {
    let served = 0
    const { port } = await listen((_, response) => {
      served += 1
      response.end()
    })
    const late = Promise.withResolvers<void>()
    const { post } = open({
      connect: () => (_, callback) => {
        void late.promise.then(() => {
          const socket = dial(port, '127.0.0.1', () => callback(null, socket))
        })
      },
    })
    const failure = await post({ url: `http://127.0.0.1:${port}/`, ...form, timeout: 100 }).catch(
      (error: unknown) => error,
    )
    expect(whyPostFailed(failure)).toBe('timeout')
    late.resolve()
    await post({ url: `http://127.0.0.1:${port}/next`, ...form })
    expect(served).toBe(1)
  })
})

describe('connections', () => {
  it('are each RP’s own, also where two RPs share an origin', async () => {
    const { url, connections } = await listen((_, response) => response.end())
    const { post } = open()
    for (const pool of ['notes', 'mail', 'notes', 'mail']) {
      await post({ url, ...form, pool })
      await aTurn()
    }
    expect(connections()).toBe(2)
  })

  it('of one RP that hangs do not stand in the way of another at the same origin', async () => {
    const { url } = await listen((request, response) => {
      if (request.url === '/mail') response.end('told')
    })
    const { post } = open()
    const stop = new AbortController()
    const hanging = Array.from({ length: 40 }, () =>
      post({ url, ...form, pool: 'notes', signal: stop.signal }).catch(() => {}),
    )
    expect((await post({ url: `${url}mail`, ...form, pool: 'mail' })).body).toBe('told')
    stop.abort()
    await Promise.all(hanging)
  })
})

describe('a request that must be admitted', () => {
  it('is, with every address its connection may lead to, before a packet leaves [T8]', async () => {
    const { url, connections } = await listen((_, response) => response.end())
    const { post } = open()
    const asked: (readonly string[])[] = []
    const admit = async (addresses: readonly string[]): Promise<void> => {
      asked.push(addresses)
      if (asked.length === 1) throw new Error('not now')
    }
    await expect(post({ url, ...form, admit })).rejects.toThrow('not now')
    expect(connections()).toBe(0)
    for (let i = 0; i < 2; i++) {
      await post({ url, ...form, admit })
      await aTurn()
    }
    expect(connections()).toBe(1)
    expect(asked).toEqual([['127.0.0.1'], ['127.0.0.1'], ['127.0.0.1']])
  })

  it('is named the address a packet goes to, however it is dressed up [T8] [T25]', async () => {
    const asked: (readonly string[])[] = []
    const answers = ['93.184.216.34', '::ffff:93.184.216.34', '64:ff9b::5db8:d822', '2002:5db8:d822::1']
    const { post } = open({
      allow: [],
      resolve: async () => [{ address: answers.shift() ?? '', family: 4 }],
      connect: () => (_, callback) => callback(new Error('no packet leaves the test'), null),
    })
    for (let i = 0; i < 4; i++) {
      const admit = async (addresses: readonly string[]): Promise<void> => void asked.push(addresses)
      await expect(post({ url: 'https://rp.example/', ...form, admit })).rejects.toThrow('no packet')
    }
    expect(new Set(asked.flat())).toEqual(new Set(['93.184.216.34']))
  })

  it('is named the /64 that an IPv6 address lies in, of which one host has all the others too [T8]', async () => {
    const asked: (readonly string[])[] = []
    const reached: string[] = []
    const answers = [['2a00:1450:4001:81b::200e', '2a00:1450:4001:81b:1:2:3:4'], ['2a00:1450:4001:81b::9']]
    const { post } = open({
      allow: [],
      resolve: async () => (answers.shift() ?? []).map((address) => ({ address, family: 6 })),
      connect:
        ({ lookup }) =>
        ({ hostname }, callback) =>
          lookup(hostname, {}, (_, address) => {
            if (typeof address === 'string') reached.push(address)
            callback(new Error('no packet leaves the test'), null)
          }),
    })
    for (let i = 0; i < 2; i++) {
      const admit = async (addresses: readonly string[]): Promise<void> => void asked.push(addresses)
      await expect(post({ url: 'https://rp.example/', ...form, admit })).rejects.toThrow('no packet')
    }
    expect(asked).toEqual([['2a00:1450:4001:81b::/64'], ['2a00:1450:4001:81b::/64']])
    expect(reached).toEqual(['2a00:1450:4001:81b::200e', '2a00:1450:4001:81b::9']) // what is asked for is still the address
  })

  it('has no body made that is not admitted: that is what costs a signature [T8]', async () => {
    const { url } = await listen((_, response) => response.end())
    const { post } = open()
    let made = 0
    const body = async (): Promise<string> => `logout_token=${++made}`
    const admit = async (): Promise<void> => {
      throw new Error('not now')
    }
    await expect(post({ url, ...form, body, admit })).rejects.toThrow('not now')
    expect(made).toBe(0)
    await post({ url, ...form, body, admit: async () => {} })
    expect(made).toBe(1)
  })

  it('waits for a body that is never made no longer than its time-out', async () => {
    const { url, connections } = await listen((_, response) => response.end())
    const body = (): Promise<string> => new Promise(() => {})
    const failure = await open()
      .post({ url, ...form, body, timeout: 100 })
      .catch((error: unknown) => error)
    expect(whyPostFailed(failure)).toBe('timeout')
    expect(connections()).toBe(0)
  })

  it('goes to the addresses it was admitted to, whatever the name says a moment later [T8] [T25]', async () => {
    const answers = ['93.184.216.34', '8.8.8.8']
    const reached: string[] = []
    const admitted: string[] = []
    const { post } = open({
      allow: [],
      resolve: async () => [{ address: answers.shift() ?? '', family: 4 }],
      connect:
        ({ lookup }) =>
        ({ hostname }, callback) =>
          lookup(hostname, { all: true }, (_, found) => {
            if (Array.isArray(found)) reached.push(...found.map(({ address }) => address))
            callback(new Error('no packet leaves the test'), null)
          }),
    })
    const admit = async (addresses: readonly string[]): Promise<void> => void admitted.push(...addresses)
    await expect(post({ url: 'https://rp.example/', ...form, admit })).rejects.toThrow('no packet')
    expect(admitted).toEqual(['93.184.216.34'])
    expect(reached).toEqual(admitted)
  })

  it('waits for a resolver or a store that never answers no longer than its time-out', async () => {
    const { post } = open({ allow: [], resolve: () => new Promise(() => {}) })
    const failure = await post({
      url: 'https://rp.example/',
      ...form,
      timeout: 100,
      admit: async () => {},
    }).catch((error: unknown) => error)
    expect(whyPostFailed(failure)).toBe('timeout')
  })
})

describe('a fetched document', () => {
  it.each([
    ['that says its length', { 'content-length': String(8 * 1024 * 1024) }],
    ['that does not', {}],
  ])('of more than 256 kB, %s, breaks off and closes the connection [T8] [T25]', async (_, headers) => {
    let sent = 0
    let closed: () => void = () => {}
    const isClosed = new Promise<void>((done) => {
      closed = done
    })
    const { url } = await listen((_request, response) => {
      response.writeHead(200, headers)
      const more = (): void => {
        while (!response.destroyed && sent < 8 * 1024 * 1024) {
          sent += 65_536
          if (!response.write(Buffer.alloc(65_536))) return void response.once('drain', more)
        }
      }
      response.on('close', closed)
      more()
    })
    const { fetch } = open()
    const answer = await fetch(url)
    await expect(answer.arrayBuffer()).rejects.toThrow('longer than 262144 bytes')
    await isClosed
  })

  it('of 256 kB is read as a whole', async () => {
    const { url } = await listen((_request, response) => response.end(Buffer.alloc(262_144)))
    const answer = await open().fetch(url)
    expect((await answer.arrayBuffer()).byteLength).toBe(262_144)
  })
})
