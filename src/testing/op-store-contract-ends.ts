import { deepEqual, equal, ok, rejects } from 'node:assert/strict'
import type { LoggedInRp, PlannedDelivery } from '../op/store/contract.ts'
import { byClient, type Law, loggedIn, opSession } from './op-store-bench.ts'

/** What an OP store promises about the end of an OP session: all of it or nothing, once, and for good. */
export function endContract(law: Law): void {
  law('ends an OP session: the fact, its notices, nothing left to find', async ({ op, runtime }) => {
    const rps = [loggedIn('notes'), loggedIn('mail'), loggedIn('no-back-channel')]
    await op.saveOpSession(opSession(runtime, { rps }))
    const seen: LoggedInRp[] = []
    const ended = await op.endOpSession(
      'uid-1',
      { cause: 'rp_initiated', initiator: 'notes', actor: 'root' },
      (told) => {
        seen.push(...told)
        return told
          .filter(({ clientId }) => clientId !== 'no-back-channel')
          .map(({ clientId, sid }) => ({ clientId, sid }))
      },
    )
    deepEqual(byClient(seen), byClient(rps))
    deepEqual(byClient(ended?.rps), byClient(rps))
    ok(ended)
    const { id, ...fact } = ended.logout
    ok(id.length >= 16)
    deepEqual(fact, {
      uid: 'uid-1',
      accountId: 'alice',
      cause: 'rp_initiated',
      initiator: 'notes',
      actor: 'root',
      endedAt: runtime.now(),
    })
    deepEqual(ended.deliveries.map(({ clientId, sid, state }) => [clientId, sid, state]).sort(), [
      ['mail', 'sid-mail', 'due'],
      ['notes', 'sid-notes', 'due'],
    ])
    deepEqual(await op.getLogout(id), { logout: ended.logout, deliveries: ended.deliveries, frames: [] })
    equal(await op.getOpSession({ uid: 'uid-1' }), undefined)
    equal(await op.getOpSession({ handle: 'handle-1' }), undefined)
    deepEqual(await op.listOpSessions({ accountId: 'alice' }), { sessions: [] })
  })

  law('keeps notices for frames with the fact, apart from the outbox', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes'), loggedIn('mail'), loggedIn('board')] }))
    const mechanisms = { notes: 'frontchannel', mail: 'backchannel', board: 'frontchannel' } as const
    const ended = await op.endOpSession('uid-1', { cause: 'op_logout' }, () =>
      (['notes', 'mail', 'board'] as const).map((clientId) => ({
        clientId,
        sid: `sid-${clientId}`,
        mechanism: mechanisms[clientId],
      })),
    )
    ok(ended)
    const frames = ['notes', 'board'].map((clientId) => ({ clientId, sid: `sid-${clientId}` }))
    deepEqual(ended.frames, frames)
    deepEqual(
      ended.deliveries.map(({ clientId }) => clientId),
      ['mail'],
    )
    deepEqual((await op.getLogout(ended.logout.id))?.frames, frames)
    const claimed = await op.claimDue({ limit: 10, lease: 1000 })
    deepEqual(
      claimed.map(({ clientId }) => clientId),
      ['mail'],
    )

    const framedAt = runtime.now()
    await op.noteFramed(ended.logout.id)
    runtime.pass(1000)
    await op.noteFramed(ended.logout.id)
    await op.noteFramed('unknown')
    deepEqual(
      (await op.getLogout(ended.logout.id))?.frames,
      frames.map((frame) => ({ ...frame, framedAt })),
    )
  })

  law('ends an OP session once, however many ask', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes')] }))
    const plan = (told: readonly LoggedInRp[]): PlannedDelivery[] =>
      told.map(({ clientId, sid }) => ({ clientId, sid }))
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => op.endOpSession('uid-1', { cause: 'op_logout' }, plan)),
    )
    equal(answers.filter((answer) => answer !== undefined).length, 1)
    equal(await op.endOpSession('uid-1', { cause: 'op_logout' }, plan), undefined)
    equal(await op.endOpSession('unknown', { cause: 'op_logout' }, plan), undefined)
    equal((await op.claimDue({ limit: 10, lease: 1000 })).length, 1)
  })

  law('takes no write for an OP session that was ended, until long after its expiry', async ({ op, runtime }) => {
    const write = opSession(runtime, { rps: [loggedIn('notes')] })
    await op.saveOpSession(write)
    await op.endOpSession('uid-1', { cause: 'admin' }, () => [])
    for (const pause of [0, 3_599_000]) {
      runtime.pass(pause)
      equal(await op.saveOpSession(write), 'ended')
      equal(await op.saveOpSession({ ...write, handle: 'handle-2', expiresAt: write.expiresAt + 9_000 }), 'ended')
      await rejects(op.claimLogin('uid-1', { clientId: 'mail', sid: 's', grantId: 'g' }), {
        code: 'op_session_ended',
      })
      equal(await op.getOpSession({ uid: 'uid-1' }), undefined)
      equal(await op.getOpSession({ handle: 'handle-1' }), undefined)
      equal(await op.getOpSession({ handle: 'handle-2' }), undefined)
    }
    // Nor does a new OP session that is given the old cookie's value become reachable by it.
    await op.saveOpSession(opSession(runtime, { uid: 'uid-2' }))
    equal(await op.getOpSession({ handle: 'handle-1' }), undefined)
  })

  law(
    'revokes the grants of the OP session with their tokens, but not what survives logout [BC §2.7]',
    async ({ op, runtime }) => {
      const offline = loggedIn('mail', { persistsLogout: true })
      await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes'), offline] }))
      await op.saveOpSession(
        opSession(runtime, { uid: 'uid-2', handle: 'h2', rps: [loggedIn('notes', { grantId: 'elsewhere' })] }),
      )
      const kinds = [
        'Grant',
        'AccessToken',
        'AuthorizationCode',
        'RefreshToken',
        'DeviceCode',
        'BackchannelAuthenticationRequest',
      ]
      const store = async (grantId: string): Promise<void> => {
        for (const kind of kinds) await op.putModel({ kind, handle: `${kind} of ${grantId}`, payload: {}, grantId })
      }
      const left = async (grantId: string): Promise<number> => {
        const found = await Promise.all(kinds.map((kind) => op.getModel(kind, { handle: `${kind} of ${grantId}` })))
        return found.filter((model) => model !== undefined).length
      }
      for (const grantId of ['grant-notes', 'grant-mail', 'elsewhere']) await store(grantId)
      await op.endOpSession('uid-1', { cause: 'op_logout' }, () => [])
      equal(await left('grant-notes'), 0)
      equal(await left('grant-mail'), kinds.length)
      equal(await left('elsewhere'), kinds.length)
      await store('grant-notes') // a token request that was still under way
      equal(await left('grant-notes'), 0)
    },
  )

  law('only removes an OP session in which nobody is signed in', async ({ op, runtime }) => {
    const { accountId: _, ...anonymous } = opSession(runtime)
    await op.saveOpSession(anonymous)
    let planned = false
    const ended = await op.endOpSession('uid-1', { cause: 'op_logout' }, () => {
      planned = true
      return []
    })
    equal(ended, undefined)
    equal(planned, false)
    equal(await op.getOpSession({ uid: 'uid-1' }), undefined)
    equal(await op.saveOpSession(anonymous), 'ended')
  })

  law('can end an OP session that has just expired, so that its RPs hear of it', async ({ op, runtime }) => {
    await op.saveOpSession(opSession(runtime, { rps: [loggedIn('notes')] }))
    runtime.pass(3_600_000)
    const ended = await op.endOpSession('uid-1', { cause: 'expired' }, ([rp]) => (rp ? [rp] : []))
    equal(ended?.deliveries.length, 1)
  })

  law('changes nothing when the plan fails', async ({ op, runtime }) => {
    const write = opSession(runtime, { rps: [loggedIn('notes')] })
    await op.saveOpSession(write)
    await op.putModel({ kind: 'RefreshToken', handle: 'h', payload: {}, grantId: 'grant-notes' })
    const before = await op.getOpSession({ uid: 'uid-1' })
    const failure = new Error('the plan failed')
    await rejects(
      op.endOpSession('uid-1', { cause: 'op_logout' }, () => {
        throw failure
      }),
      failure,
    )
    deepEqual(await op.getOpSession({ handle: 'handle-1' }), before)
    equal((await op.getModel('RefreshToken', { handle: 'h' }))?.handle, 'h')
    equal(await op.nextDueAt(), undefined)
    equal(await op.saveOpSession(write), 'saved')
  })
}
