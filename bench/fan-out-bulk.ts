import { performance } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'
import { logIn } from '../test/support/op-flow.ts'
import { createUserAgent } from '../test/support/user-agent.ts'
import { type BenchOp, type BenchRps, type Client, clientsOf, figure, startOp } from './fan-out-parts.ts'
import { type Figure, quantile } from './report.ts'

interface Size {
  readonly short: boolean
  readonly big: boolean
}

/** Megabytes that an OP's process takes with many deliveries due to RPs that are down, beside what it takes with few. */
export async function memoryFigures(
  where: (name: string) => string,
  rps: BenchRps,
  { short, big }: Size,
): Promise<Figure[]> {
  const [few, many] = short ? [1_000, 2_000] : [10_000, big ? 1_000_000 : 100_000]
  const megabytes = async (count: number): Promise<number> => {
    const clients = clientsOf(
      rps.urls.slice(0, 100).map(() => rps.refusing),
      'ES256',
    )
    const folder = where(`due-${count}-`)
    const filler = await startOp({ kind: 'ours', folder, clients })
    await filler.ask({ owe: { count, clientIds: clients.map(({ client_id }) => client_id) } })
    await filler.stop()
    const op = await startOp({ kind: 'ours', folder, clients }) // a process that has done nothing but come back to them
    let most = 0
    for (let second = 0; second < (short ? 1 : 10); second++) {
      await wait(1000)
      const { rss, owed } = (await op.ask('state')) as { rss: number; owed: number }
      if (owed !== count) throw new Error(`${owed} of ${count} deliveries are due`)
      most = Math.max(most, rss / 1_000_000)
    }
    await op.stop()
    return most
  }
  const [least, most] = [await megabytes(few), await megabytes(many)]
  const ratio = most / least
  return [
    {
      ...figure(
        `memory with ${many.toLocaleString('en')} deliveries due, beside ${few.toLocaleString('en')}`,
        'MB',
        most,
      ),
      limit: least,
      ratioToLimit: ratio,
      goal: 1.25,
      met: ratio <= 1.25,
    },
  ]
}

/** Milliseconds of a login while many OP sessions are ended by a job, beside those of one while nothing else happens. */
export async function bulkFigures(folder: string, rps: BenchRps, { short, big }: Size): Promise<Figure[]> {
  const count = short ? 50 : big ? 100_000 : 5_000
  const logins = short ? 5 : 200
  const clients = clientsOf(rps.urls, 'ES256')
  const [first] = clients
  if (!first) throw new Error('there are no RPs')
  const crowd: Client = { ...first, client_id: 'crowd' }
  const op = await startOp({ kind: 'ours', folder, clients: [...clients, crowd] })
  const clientIds = clients.slice(0, 50).map(({ client_id }) => client_id)
  const ended = (n: number): Promise<unknown> => op.ask({ crowd: { count: n, clientIds } })
  await ended(count)
  await loginTimes(op, first, 20) // warms up
  const without = await loginTimes(op, first, logins)
  const from = performance.now()
  await op.ask({ endCrowd: true })
  const during = await loginTimes(op, first, logins)
  while (!(await op.ask('crowdIsTold'))) await wait(200)
  const took = (performance.now() - from) / 1000
  await op.stop()
  const [p99, limit] = [quantile(during, 0.99), quantile(without, 0.99)]
  const what = `${count.toLocaleString('en')} OP sessions of 3 RPs`
  return [
    { ...figure(`login p99 while a job ends ${what}`, 'ms', p99), limit, ratioToLimit: p99 / limit },
    figure(`${what} ended, all RPs told`, 's', took),
  ]
}

/** Milliseconds of new logins, code and token request included, one after the other. */
async function loginTimes(op: BenchOp, client: Client, count: number): Promise<number[]> {
  const times: number[] = []
  for (let i = 0; i < count; i++) {
    const browser = createUserAgent()
    const from = performance.now()
    await logIn(browser, op, client)
    times.push(performance.now() - from)
    await browser.close()
  }
  return times
}
