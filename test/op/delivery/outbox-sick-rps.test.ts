import { afterEach, expect, it } from 'vitest'
import { second } from '../../../src/runtime/milliseconds.ts'
import { type VirtualWorld, virtualWorld } from './virtual-world.ts'

/*
 * Under the virtual clock, since no machine that runs tests is quiet: an RP takes 20 ms, a signature 1 ms of the one
 * processor there is, and the rest is the product's own code.
 */

let world: VirtualWorld | undefined
afterEach(() => world?.close())

const rps: readonly string[] = Array.from({ length: 200 }, (_, i) => `rp${i}`)
/** Of two hundred, twenty hang, twenty refuse connections, and ten answer 500 for half a minute. */
const sick = new Map(
  [
    ...Array.from({ length: 20 }, () => 'hangs'),
    ...Array.from({ length: 20 }, () => 'refuses'),
    ...Array.from({ length: 10 }, () => '500'),
  ].map((what, i): [string, string] => [`rp${i * 4}`, what]),
)
const healthy = rps.filter((rp) => !sick.has(rp))
const logoutsAtOnce = 8
const bursts = 1

/** Milliseconds from each commit to the answer of each healthy RP. */
async function waits(isSick: boolean): Promise<number[]> {
  const here = virtualWorld()
  world = here
  const { now, sleep } = here.runtime
  const found: number[] = []
  const committed = new Map<string, number>()
  let signer = Promise.resolve()
  const start = now()
  here.start(
    {},
    {
      mint: async ({ logout }) => {
        signer = signer.then(() => sleep(1))
        await signer
        return logout.uid
      },
      runtime: {
        ...here.runtime,
        async post({ url, body, timeout, signal }) {
          const rp = new URL(url).hostname.replace('.example', '')
          const what = isSick ? sick.get(rp) : undefined
          const uid = new URLSearchParams(await body()).get('logout_token') ?? ''
          if (what === 'refuses') throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
          if (what === 'hangs') {
            await sleep(timeout, signal)
            throw new DOMException('no answer in time', 'TimeoutError')
          }
          await sleep(20)
          if (what === '500' && now() < start + 30 * second) return { status: 500, headers: {}, body: '' }
          if (!sick.has(rp)) found.push(now() - (committed.get(uid) ?? Number.NaN))
          return { status: 200, headers: {}, body: '' }
        },
      },
    },
  )
  for (let burst = 0; burst < bursts; burst++) {
    for (let i = 0; i < logoutsAtOnce; i++) {
      const uid = `u${burst}-${i}`
      committed.set(uid, now())
      await here.logout(uid, ...rps)
    }
    await here.pass(15 * second)
  }
  await here.close()
  world = undefined
  return found.sort((a, b) => a - b)
}

it('healthy RPs wait no longer when 10 % of all hang, 10 % refuse and 5 % fail [design §4]', async () => {
  const p99 = (all: readonly number[]): number => all[Math.floor(all.length * 0.99)] ?? Number.NaN
  const without = await waits(false)
  const beside = await waits(true)
  expect([without.length, beside.length]).toEqual(
    Array.from({ length: 2 }, () => bursts * logoutsAtOnce * healthy.length),
  )
  console.info(`virtual p99: ${p99(without)} ms without sick RPs, ${p99(beside)} ms beside them`)
  expect(p99(beside) / p99(without)).toBeLessThanOrEqual(1.2)
})

it('RPs that hang and take every place at once give them up in a moment, and not when their time is over [design §4]', async () => {
  const here = virtualWorld()
  world = here
  const hanging = Array.from({ length: 16 }, (_, i) => `hangs${i}`)
  for (const rp of hanging) here.rps.set(rp, () => 'hangs')
  here.rps.set('well', () => ({ status: 200, headers: {}, body: '' }))
  for (let logouts = 0; logouts < 8; logouts++) await here.logout(`u${logouts}`, ...hanging)
  await here.logout('u', 'well')
  here.start() // 16 times 8 attempts are 128, the places there are
  await here.pass(second)
  expect(here.posts.find(({ clientId }) => clientId === 'well')?.at).toBeLessThanOrEqual(250)
})
