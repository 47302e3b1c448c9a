import { describe, expect, it } from 'vitest'
import { planFanOut } from '../../src/op/fan-out.ts'
import type { EndCause } from '../../src/op.ts'

const rp = (clientId: string) => ({ clientId, sid: `sid of ${clientId}`, persistsLogout: false })
const hears = { backchannelLogoutUri: 'https://rp.example/logout' }

describe('the plan of whom to tell', () => {
  it('has each RP that can hear, by its own sid [BCL-2.3-a]', () => {
    const receivers = new Map([
      ['notes', hears],
      ['mail', hears],
    ])
    expect(planFanOut([rp('notes'), rp('mail')], receivers, 'op_logout')).toEqual([
      { clientId: 'notes', sid: 'sid of notes', mechanism: 'backchannel' },
      { clientId: 'mail', sid: 'sid of mail', mechanism: 'backchannel' },
    ])
  })

  it('leaves out an RP that has no back-channel, and one that is gone [BCL-2.2-a]', () => {
    const receivers = new Map<string, { backchannelLogoutUri?: string } | undefined>([
      ['deaf', {}],
      ['gone', undefined],
    ])
    expect(planFanOut([rp('deaf'), rp('gone')], receivers, 'op_logout')).toEqual([])
  })

  it('leaves out an RP that the operator keeps ignorant of this cause, and of no other [design §4]', () => {
    const receivers = new Map([
      ['notes', { ...hears, lockstep_ignored_causes: ['expired'] }],
      ['mail', { ...hears, lockstep_ignored_causes: [] }],
    ])
    const told = (cause: EndCause) =>
      planFanOut([rp('notes'), rp('mail')], receivers, cause).map(({ clientId }) => clientId)
    expect(told('expired')).toEqual(['mail'])
    expect(told('compromise')).toEqual(['notes', 'mail'])
  })

  it('has an RP that logged in while the plan was made: late is better than never [race 1]', () => {
    expect(planFanOut([rp('notes'), rp('late')], new Map([['notes', {}]]), 'op_logout')).toEqual([
      { clientId: 'late', sid: 'sid of late', mechanism: 'backchannel' },
    ])
  })

  it('has a frame for an RP that has nothing else, and a Logout Token alone for one that has both [FCL-2-c]', () => {
    const framed = { frontchannelLogoutUri: 'https://rp.example/out' }
    const receivers = new Map([
      ['framed', framed],
      ['both', { ...hears, ...framed }],
    ])
    expect(planFanOut([rp('framed'), rp('both')], receivers, 'op_logout')).toEqual([
      { clientId: 'framed', sid: 'sid of framed', mechanism: 'frontchannel' },
      { clientId: 'both', sid: 'sid of both', mechanism: 'backchannel' },
    ])
  })

  it('leaves out the grants, so that no delivery holds one [T6]', () => {
    const plan = planFanOut([{ ...rp('notes'), grantId: 'grant' }], new Map([['notes', hears]]), 'op_logout')
    expect(JSON.stringify(plan)).not.toContain('grant')
  })
})
