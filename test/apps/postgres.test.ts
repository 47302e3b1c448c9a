import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ConfigError } from '../../apps/server/config-error.ts'
import { hasPostgres, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { browser, configOf, fileFor, freePort, loginUrl, running, startApp } from './support.ts'

let postgres: TestPostgres

describe.skipIf(!hasPostgres)('the server on PostgreSQL', () => {
  beforeAll(async () => {
    postgres = await startPostgres()
  }, 60_000)
  afterAll(() => postgres?.close())

  const withStore = (port: number, app: string, store: unknown) => configOf({ ...fileFor(port, app), store })

  it('knows who is signed in, and its keys, after a restart', async () => {
    const app = await startApp()
    const config = withStore(await freePort(), app.origin, { postgres: postgres.connectionString })
    const keys = () => fetch(`${config.issuer}/jwks`).then((response) => response.text())
    const first = await running(config)
    const tab = browser()
    await tab.submit(await tab.open(loginUrl(config.issuer, app.origin)), { username: 'ada', password: 'analytical' })
    const before = await keys()
    await first.stop()
    await running(config)
    expect(await keys()).toBe(before)
    const silent = await tab.open(loginUrl(config.issuer, app.origin, { prompt: 'none' }))
    expect(new URL(silent.url).searchParams.get('code')).toBeTruthy()
  })

  const wrong: [what: string, store: () => unknown, words: RegExp][] = [
    [
      'that is not there',
      () => ({ postgres: 'postgres://op:hunter2@127.0.0.1:1/op' }),
      /127\.0\.0\.1:1\/op cannot be reached: ECONNREFUSED\. Start the database/,
    ],
    [
      'that refuses the password',
      () => ({ postgres: `postgres://tester:hunter2@127.0.0.1:${postgres.port}/postgres` }),
      /password authentication failed/,
    ],
    [
      'over an open network [T19]',
      () => ({ postgres: 'postgres://op:hunter2@db.example/op' }),
      /"store\.postgres": .*not protected.*allowInsecure/,
    ],
    [
      'whose connection string is none',
      () => ({ postgres: 'postgres://op:hunter2@[/op' }),
      /"store\.postgres": connectionString is not/,
    ],
  ]
  it.each(wrong)('says in one line why it does not start on a database %s', async (_, store, words) => {
    const error: unknown = await running(withStore(await freePort(), 'http://127.0.0.1:9', store())).catch(
      (failure: unknown) => failure,
    )
    expect(error).toBeInstanceOf(ConfigError)
    const { message } = error as ConfigError
    expect(message).toMatch(words)
    expect(message).toMatch(/^op\.json: "store\.postgres"/)
    expect(message).not.toMatch(/\n|hunter2/)
  })
})
