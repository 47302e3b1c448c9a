import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type OpStore, openSecrets, rotateKeys } from '../../../src/op.ts'
import { sqliteStore } from '../../../src/op-sqlite.ts'
import { minute, second } from '../../../src/runtime/milliseconds.ts'
import { says, type VirtualWorld, virtualWorld } from './virtual-world.ts'

const issuer = 'https://op.example'
/** Seconds for which this RP caches a JWKS: as long as `openSecrets` believes. */
const jwksCache = 900

let world: VirtualWorld
let secrets: OpStore
beforeEach(() => {
  world = virtualWorld()
  secrets = sqliteStore(':memory:')
})
afterEach(async () => {
  await world.close()
  await secrets.close()
})

const options = () => ({ algorithms: ['ES256'] as const, now: world.runtime.now })
const kids = async () => (await openSecrets(secrets, issuer, options())).jwks.keys.map(({ kid = '' }) => kid)

/** An OP process with the keys that there are now, whose tokens are the `kid` they are signed by, and a number. */
async function startOp() {
  const listed = await kids()
  let made = 0
  return { listed, outbox: world.start({}, { mint: async () => `${listed[0]}.${++made}` }) }
}

/** Withdraws keys, and starts an OP process with the others in place of the one before. */
async function withdraw(compromised: readonly string[] | 'all', before: Awaited<ReturnType<typeof startOp>>) {
  await before.outbox.stop()
  await rotateKeys(secrets, issuer, { ...options(), compromised })
  return startOp()
}

const signers = (from: number) => new Set(world.posts.slice(from).map(({ token }) => token.split('.')[0]))

describe('what is due when a signing key is withdrawn', () => {
  it('goes out signed by the next one, which RPs know: none leaves with the lost key [T26]', async () => {
    const op = await startOp()
    const [lost = '', next] = op.listed
    const cached = new Set(op.listed)
    const ended = []
    for (let i = 0; i < 5; i++) ended.push(await world.logout(`u${i}`, 'notes'))
    await world.pass(5 * minute)
    const posts = world.posts.length
    expect(signers(0)).toEqual(new Set([lost]))

    await withdraw([lost], op)
    world.rps.set('notes', ({ body }) => says(cached.has(kidIn(body)) ? 200 : 400, {}, '{"error":"invalid_request"}'))
    await world.pass(minute)
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
    expect(signers(posts)).toEqual(new Set([next]))
  })

  it('stays due while RPs know none of the keys, and is delivered when their JWKS is older than jwksCache [T26]', async () => {
    const op = await startOp()
    let cached = new Set(op.listed)
    const ended = []
    for (let i = 0; i < 5; i++) ended.push(await world.logout(`u${i}`, 'notes'))
    const posts = world.posts.length

    const after = await withdraw('all', op)
    let fetchedAt = world.runtime.now() // a moment before
    world.rps.set('notes', ({ body }) => {
      if (world.runtime.now() - fetchedAt >= jwksCache * 1000) {
        cached = new Set(after.listed)
        fetchedAt = world.runtime.now()
      }
      return says(cached.has(kidIn(body)) ? 200 : 400, {}, '{"error":"invalid_request"}')
    })
    await world.pass((jwksCache - 1) * second)
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('due')
    await world.pass(2 * minute)
    for (const one of ended) expect((await world.deliveries(one))[0]?.state).toBe('delivered')
    expect(signers(posts)).toEqual(new Set([after.listed[0]]))
    expect(after.listed.filter((kid) => op.listed.includes(kid))).toEqual([])
    expect(world.told.filter(([name]) => name === 'lockstep.delivery.dead')).toEqual([])
  })
})

function kidIn(body: string): string {
  return new URLSearchParams(body).get('logout_token')?.split('.')[0] ?? ''
}
