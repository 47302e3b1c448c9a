import { describe, expect, it } from 'vitest'
import { planFanOut } from '../../src/op/fan-out.ts'

const rp = (clientId: string) => ({ clientId, sid: `sid of ${clientId}`, persistsLogout: false })
const hears = { backchannelLogoutUri: 'https://rp.example/logout' }

describe('the plan of whom to tell', () => {
  it('has each RP that can hear, by its own sid [BCL-2.3-a]', () => {
    const receivers = new Map([
      ['notes', hears],
      ['mail', hears],
    ])
    expect(planFanOut([rp('notes'), rp('mail')], receivers)).toEqual([
      { clientId: 'notes', sid: 'sid of notes' },
      { clientId: 'mail', sid: 'sid of mail' },
    ])
  })

  it('leaves out an RP that has no back-channel, and one that is gone [BCL-2.2-a]', () => {
    const receivers = new Map<string, { backchannelLogoutUri?: string } | undefined>([
      ['deaf', {}],
      ['gone', undefined],
    ])
    expect(planFanOut([rp('deaf'), rp('gone')], receivers)).toEqual([])
  })

  it('has an RP that logged in while the plan was made: late is better than never [race 1]', () => {
    expect(planFanOut([rp('notes'), rp('late')], new Map([['notes', {}]]))).toEqual([
      { clientId: 'late', sid: 'sid of late' },
    ])
  })

  it('leaves out the grants, so that no delivery holds one [T6]', () => {
    const plan = planFanOut([{ ...rp('notes'), grantId: 'grant' }], new Map([['notes', hears]]))
    expect(JSON.stringify(plan)).not.toContain('grant')
  })
})
