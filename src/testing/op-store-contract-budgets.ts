import { equal, ok } from 'node:assert/strict'
import { issuer, type Law } from './op-store-bench.ts'

const second = 1000
const minute = 60 * second
const hour = 60 * minute

/** What an OP store promises about the budgets of URIs that never answered (T8). */
export function budgetContract(law: Law, durable: boolean): void {
  law('gives no more attempts in any hour than a budget has, half of them at once [T8]', async ({ op, runtime }) => {
    const taken: number[] = []
    const began = runtime.now()
    while (runtime.now() < began + 5 * hour) {
      if ((await op.takeAttempt([{ name: 'uri', perHour: 10 }])) === undefined) taken.push(runtime.now())
      else runtime.pass(minute)
    }
    equal(taken.filter((at) => at === began).length, 5)
    for (const from of taken) ok(taken.filter((at) => at >= from && at < from + hour).length <= 10)
    ok(taken.length >= 25, `${taken.length} attempts in five hours`)
  })

  law('says exactly when a budget has an attempt again [T8]', async ({ op, runtime }) => {
    const budgets = [{ name: 'uri', perHour: 2 }]
    equal(await op.takeAttempt(budgets), undefined)
    const retryAt = (await op.takeAttempt(budgets)) as number
    runtime.pass(retryAt - runtime.now() - 1)
    equal(await op.takeAttempt(budgets), retryAt)
    runtime.pass(1)
    equal(await op.takeAttempt(budgets), undefined)
  })

  law('takes from all the budgets of an attempt or from none, and waits for the last of them [T8]', async (bench) => {
    const { op, runtime } = bench
    const of = (...names: string[]) => names.map((name) => ({ name, perHour: name === 'slow' ? 1 : 4 }))
    equal(await op.takeAttempt(of('slow', 'quick')), undefined)
    for (let i = 0; i < 9; i++) equal(await op.takeAttempt(of('quick', 'slow')), runtime.now() + hour)
    equal(await op.takeAttempt(of('quick')), undefined) // the second of two at once: none was lost to the nine above
    equal(await op.takeAttempt(of('quick')), runtime.now() + hour / 3)
    equal(await op.takeAttempt(of('slow', 'quick')), runtime.now() + hour)
  })

  law('hands a budget out once, however many ask at the same time [T8]', async ({ op }) => {
    const names = ['a', 'b', 'c']
    const asked = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        op.takeAttempt([...names.slice(i % 3), ...names.slice(0, i % 3)].map((name) => ({ name, perHour: 6 }))),
      ),
    )
    equal(asked.filter((retryAt) => retryAt === undefined).length, 3)
  })

  law('keeps a budget while it is used up, however often what has expired is cleaned away [T8]', async (bench) => {
    const { op, runtime } = bench
    const budgets = [{ name: 'uri', perHour: 1 }]
    equal(await op.takeAttempt(budgets), undefined)
    for (let i = 0; i < 59; i++) {
      runtime.pass(minute)
      await op.putModel({ kind: 'x', handle: `${i}`, payload: {} }) // a write is what cleaning goes with
    }
    ok(await op.takeAttempt(budgets))
    runtime.pass(minute)
    equal(await op.takeAttempt(budgets), undefined)
  })

  law('knows which URIs have answered which client [T8]', async ({ op }) => {
    equal(await op.hasAnswered('notes', 'uri'), false)
    await op.noteAnswered('notes', 'uri')
    await op.noteAnswered('notes', 'uri')
    equal(await op.hasAnswered('notes', 'uri'), true)
    equal(await op.hasAnswered('notes', 'other'), false)
    equal(await op.hasAnswered('other', 'uri'), false)
  })

  law('forgets a URI that has not answered for as long as logouts are kept [T8] [T30]', async ({ op, runtime }) => {
    const forget = async (): Promise<void> => {
      while (await op.forget({ attempts: runtime.now() - hour, logouts: runtime.now() - 2 * hour }, 1));
    }
    for (const uri of ['gone', 'gone too', 'there']) await op.noteAnswered('a', uri)
    runtime.pass(hour)
    await op.noteAnswered('a', 'there')
    await forget()
    equal(await op.hasAnswered('a', 'gone'), true)
    runtime.pass(hour + 1)
    await forget()
    equal(await op.hasAnswered('a', 'gone'), false)
    equal(await op.hasAnswered('a', 'gone too'), false)
    equal(await op.hasAnswered('a', 'there'), true)
  })

  law('keeps the budgets and answers of issuers apart [T8] [T20]', async ({ store, op, runtime }) => {
    const other = store.forIssuer('https://other.example', runtime)
    const budgets = [{ name: 'uri', perHour: 1 }]
    equal(await op.takeAttempt(budgets), undefined)
    equal(await other.takeAttempt(budgets), undefined)
    await op.noteAnswered('notes', 'uri')
    equal(await other.hasAnswered('notes', 'uri'), false)
  })

  if (!durable) return

  law('has its budgets and answers after a restart [T8]', async ({ store, op, runtime, reopen }) => {
    await op.takeAttempt([{ name: 'uri', perHour: 1 }])
    await op.noteAnswered('notes', 'uri')
    await store.close()
    const again = await reopen?.()
    const reopened = again?.forIssuer(issuer, runtime)
    ok(reopened)
    equal(await reopened.takeAttempt([{ name: 'uri', perHour: 1 }]), runtime.now() + hour)
    equal(await reopened.hasAnswered('notes', 'uri'), true)
    await again?.close()
  })
}
