import { expect, it } from 'vitest'
import { fakeBackend } from './fake-world.ts'
import { fakeOp, openSpa, signInAnew } from './open-spa.ts'
import { alive, openTab } from './open-tab.ts'

const opIframe = 'https://op.example/session/check'

it('has nothing asked for a tab whose change was solved while it waited', async () => {
  let status = 'unchanged'
  const document = {
    ...alive,
    session_state: 'one.salt',
    check_session_iframe: opIframe,
    silent_check: 'works',
  } as const
  const backend = fakeBackend(document)
  const { world } = await openTab(backend, { answer: (_, { url }) => (url === opIframe ? status : undefined) })
  await world.advance(5_000)
  const silentChecks = () => world.framesOpened.filter(({ url }) => url !== opIframe).length
  status = 'changed'
  await world.advance(60_000)
  expect(silentChecks()).toBe(3)
  backend.become({ ...document, session_state: 'two.salt' })
  status = 'unchanged'
  await world.advance(900_000)
  expect(silentChecks()).toBe(3)
})

it('lets a tab find out as soon as at first once there was peace: an OP that was away makes no page slow for its life', async () => {
  const op = fakeOp()
  const { world, monitor } = await openSpa(op, { proved: true })
  await world.advance(5_000)
  signInAnew(op)
  const silently = op.silently
  op.silently = () => Promise.reject(new Error('away'))
  await world.advance(2 * 3_600_000)
  op.silently = silently
  await world.advance(6 * 3_600_000)
  for (const login of ['three', 'four', 'five']) {
    signInAnew(op, `${login}.salt`)
    await world.advance(600_000)
  }
  expect(monitor.state).toBe('alive')
  op.status = 'changed'
  op.silently = async () => undefined
  await world.advance(10_000)
  expect(monitor.state).toBe('ended')
})
