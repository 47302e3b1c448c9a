import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { egress } from '../../src/runtime/egress.ts'

let dials = 0
let posts = 0
let url: string
const cleanups: (() => Promise<unknown>)[] = []

beforeEach(async () => {
  dials = 0
  posts = 0
  const server = createServer((_, response) => {
    posts += 1
    response.end()
  })
  server.on('connection', () => {
    dials += 1
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  cleanups.push(() => {
    server.closeAllConnections()
    return new Promise((done) => server.close(done))
  })
  url = `http://rp.example:${(server.address() as AddressInfo).port}/`
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A way out whose resolver answers when the test says so. */
function slowly() {
  const answered = Promise.withResolvers<void>()
  const asked = Promise.withResolvers<void>()
  const network = egress({
    allow: ['127.0.0.0/8'],
    resolve: async () => {
      asked.resolve()
      await answered.promise
      return [{ address: '127.0.0.1', family: 4 }]
    },
  })
  cleanups.push(() => network.close())
  return { network, asked: asked.promise, answer: answered.resolve }
}

/** Long enough for a connection on loopback, were one opened. */
const aMoment = (): Promise<void> => new Promise((done) => setTimeout(done, 200))
const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  )

describe('a POST whose time is over while', () => {
  it('its name is looked up is not admitted, signed or sent any more [T8]', async () => {
    const did: string[] = []
    const { network, answer } = slowly()
    const failure = await failureOf(
      network.post({
        url,
        headers: {},
        timeout: 50,
        admit: async () => void did.push('admitted'),
        body: async () => {
          did.push('signed')
          return 'x'
        },
      }),
    )
    expect(failure).toMatchObject({ name: 'TimeoutError' })
    answer()
    await aMoment()
    expect({ did, dials, posts }).toEqual({ did: [], dials: 0, posts: 0 })
  })

  it.each(['admit', 'body'] as const)('%s is asked opens no connection any more', async (what) => {
    const did: string[] = []
    const late = Promise.withResolvers<void>()
    const { network, answer } = slowly()
    answer()
    const step = async (name: 'admit' | 'body'): Promise<void> => {
      did.push(name)
      if (name === what) await late.promise
    }
    const failure = await failureOf(
      network.post({
        url,
        headers: {},
        timeout: 100,
        admit: () => step('admit'),
        body: () => step('body').then(() => 'x'),
      }),
    )
    expect(failure).toMatchObject({ name: 'TimeoutError' })
    late.resolve()
    await aMoment()
    expect(did.at(-1)).toBe(what)
    expect({ dials, posts }).toEqual({ dials: 0, posts: 0 })
  })
})

describe('a way out that is closed', () => {
  it.each([
    ['was admitted by address', { admit: async () => {} }],
    ['goes by name', {}],
  ])('opens no connection for a look-up that ends later, of a request that %s', async (_, how) => {
    const { network, asked, answer } = slowly()
    const failure = await failureOf(network.post({ url, headers: {}, timeout: 50, body: async () => 'x', ...how }))
    expect(failure).toMatchObject({ name: 'TimeoutError' })
    await asked
    await network.close()
    answer()
    await aMoment()
    expect(dials).toBe(0)
  })

  it('takes no request any more', async () => {
    const { network, answer } = slowly()
    answer()
    await network.close()
    const failure = await failureOf(network.post({ url, headers: {}, timeout: 1000, body: async () => 'x' }))
    expect(String(failure)).toContain('closed')
    expect({ dials, posts }).toEqual({ dials: 0, posts: 0 })
  })

  it('waits for no connection that nobody takes', { timeout: 20_000 }, async () => {
    const network = egress({ allow: ['127.0.0.0/8'], connect: () => () => {} })
    const failure = await failureOf(
      network.post({ url: 'http://127.0.0.1:9/', headers: {}, timeout: 50, body: async () => 'x' }),
    )
    expect(failure).toMatchObject({ name: 'TimeoutError' })
    await expect(network.close()).resolves.toBeUndefined()
  })
})

it('a document that is fetched is waited for no longer than its signal says, whatever hangs', async () => {
  const network = egress({ allow: ['127.0.0.0/8'], connect: () => () => {} })
  cleanups.push(() => network.close())
  const failure = await failureOf(network.fetch('http://127.0.0.1:9/jwks', { signal: AbortSignal.timeout(50) }))
  expect(failure).toMatchObject({ name: 'TimeoutError' })
})
