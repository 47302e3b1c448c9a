import { afterEach, expect, it } from 'vitest'
import type { OpLogEvent } from '../../../src/op.ts'
import { isSignedIn, logIn, logoutUrl } from '../../support/op-flow.ts'
import { startRpSite } from '../../support/rp-site.ts'
import { startTestOp } from '../../support/test-op.ts'
import { createUserAgent } from '../../support/user-agent.ts'

const opened: { close(): Promise<unknown> }[] = []
afterEach(async () => {
  for (const each of opened.splice(0).toReversed()) await each.close()
})

it('a user can log out while the database of users is down: the question has the id for a name, and the operator hears of it', async () => {
  let isDown = false
  const events: OpLogEvent[] = []
  const rps = await startRpSite()
  const notes = rps.client('notes')
  const op = await startTestOp({
    clients: [notes],
    configuration: {
      findAccount: (_ctx, accountId) => {
        if (isDown) throw new Error('the database of users is down')
        return { accountId, claims: () => ({ sub: accountId, name: 'Ada' }) }
      },
    },
    options: { log: (event) => events.push(event) },
  })
  const browser = createUserAgent()
  opened.push(rps, op, browser)
  await logIn(browser, op, notes)
  isDown = true
  const question = await browser.open(logoutUrl(op))
  expect(question.body).toContain('You are signed in as <strong>ada</strong>')
  expect((await browser.submit(question, { answer: 'yes' })).status).toBe(200)
  isDown = false
  expect(await isSignedIn(browser, op, notes)).toBe(false)
  expect(events).toContainEqual({ event: 'op_failed', task: 'account', message: 'the database of users is down' })
})
