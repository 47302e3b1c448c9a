import { afterEach, describe, expect, it } from 'vitest'
import { startWorld, type TestWorld, type WorldOptions } from './support.ts'

let world: TestWorld | undefined

async function start(options?: WorldOptions): Promise<TestWorld> {
  world = await startWorld(options)
  return world
}

afterEach(async () => {
  await world?.close()
  world = undefined
})

describe('a login', () => {
  it('takes a signed-out browser to the OP and back to the page it wanted [Core §3.1]', async () => {
    const { app, newAgent, signIn } = await start()
    const page = await signIn(newAgent(), app)
    expect(page).toMatchObject({ status: 200, url: `${app.url}/me`, body: 'Hello the one called ada' })
  })
})
