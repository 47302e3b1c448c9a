import { describe, expect, it } from 'vitest'
import { freshPage, settle } from './fake-world.ts'
import { aStorage, fakeOp, openSpa, passTogether, refused, signInAnew } from './open-spa.ts'

describe('a tab without a backend that comes later', () => {
  it('brings back no old session_state: the OP is asked once per change', async () => {
    const op = fakeOp()
    const shared = { baseUrl: freshPage(), storage: aStorage(), proved: true }
    const leader = await openSpa(op, shared)
    const other = await openSpa(op, shared)
    await passTogether([leader, other], 3_000)
    leader.world.show('hidden')
    signInAnew(op)
    await passTogether([leader, other], 6_000)
    expect(op.silentChecks).toBe(1)
    for (let more = 0; more < 2; more++) {
      const later = await openSpa(op, { ...shared, sessionState: 'two.salt' })
      await passTogether([leader, other, later], 6_000)
      later.monitor.stop()
    }
    expect(op.silentChecks).toBe(1)
  })

  it('makes nobody unknown who has been confirmed since', async () => {
    const op = fakeOp()
    const shared = { baseUrl: freshPage(), storage: aStorage(), proved: true }
    const leader = await openSpa(op, shared)
    await passTogether([leader], 3_000)
    signInAnew(op)
    op.silently = refused
    await passTogether([leader], 2_200)
    expect(leader.monitor.state).toBe('unknown')
    leader.world.show('hidden')
    const other = await openSpa(op, shared)
    signInAnew(op)
    await passTogether([leader, other], 20_000, 500)
    expect([leader, other].map(({ monitor }) => monitor.state)).toEqual(['alive', 'alive'])
    other.told.length = 0
    const later = await openSpa(op, { ...shared, sessionState: 'two.salt' })
    await passTogether([leader, other, later], 6_000)
    expect(other.told).not.toContain('unknown')
    expect([leader, other, later].map(({ monitor }) => monitor.state)).toEqual(['alive', 'alive', 'alive'])
  })

  it('and is refused, being loaded after the logout, does not blind the tabs that could see', async () => {
    const op = fakeOp()
    const shared = { baseUrl: freshPage(), storage: aStorage() }
    const old = await openSpa(op, shared)
    await passTogether([old], 5_000)
    expect(old.monitor.blind).toBe(false)
    old.world.show('hidden')
    op.status = 'changed'
    op.silently = async () => undefined
    const later = await openSpa(op, { ...shared, sessionState: 'own.salt' })
    await passTogether([old, later], 5_000)
    later.world.show('hidden')
    old.world.show('visible')
    await passTogether([old, later], 10_000)
    expect([old, later].map(({ monitor }) => monitor.state)).toEqual(['ended', 'ended'])
  })

  it('does not blind either a tab that comes back from the back/forward cache meanwhile', async () => {
    const op = fakeOp()
    const shared = { baseUrl: freshPage(), storage: aStorage() }
    const old = await openSpa(op, shared)
    await passTogether([old], 3_000)
    old.world.window.dispatchEvent(new Event('pagehide'))
    const silently = op.silently
    op.silently = async () => undefined
    const later = await openSpa(op, { ...shared, sessionState: 'own.salt' })
    await passTogether([old, later], 3_000)
    expect(later.monitor.blind).toBe(true)
    op.silently = silently
    old.world.window.dispatchEvent(new Event('pageshow'))
    await passTogether([old, later], 5_000)
    expect([old, later].map(({ monitor }) => monitor.state)).toEqual(['alive', 'alive'])
    later.world.show('hidden')
    op.status = 'changed'
    op.silently = async () => undefined
    await passTogether([old, later], 10_000)
    expect([old, later].map(({ monitor }) => monitor.state)).toEqual(['ended', 'ended'])
  })

  it('knows that silent checks work in its own login, also when another tab has signed in since', async () => {
    const op = fakeOp()
    const storage = aStorage()
    for (const sessionState of ['one.salt', 'own.salt']) {
      const { monitor } = await openSpa(op, { storage, sessionState })
      expect(monitor.blind).toBe(false)
      monitor.stop()
    }
    expect(op.silentChecks).toBe(2)
    op.status = 'changed'
    op.silently = async () => undefined
    const again = await openSpa(op, { storage })
    await again.world.advance(1_000)
    expect(again.monitor.state).toBe('ended')
  })

  it('remembers the last twenty logins, no more', async () => {
    const op = fakeOp()
    const entries = new Map<string, string>()
    const storage = { getItem: (key: string) => entries.get(key) ?? null, setItem: entries.set.bind(entries) }
    for (let login = 0; login < 25; login++) {
      const { monitor } = await openSpa(op, { storage, sessionState: `login${login}.salt` })
      monitor.stop()
    }
    const [remembered] = entries.values()
    expect(remembered?.split(' ')).toHaveLength(20)
    expect(remembered?.split(' ')[0]).toBe('login24.salt')
  })
})

describe('a prompt=none that is under way when the page goes to rest', () => {
  it.each([
    ['answers late', async (answer: () => void) => answer()],
    ['answers when the page is about to ask for another reason', undefined],
  ])('signs nobody out who signs in anew before it is back: one that %s', async (_, late) => {
    const op = fakeOp()
    const shared = { baseUrl: freshPage(), proved: true }
    let answer = () => {}
    const first = await openSpa(op, shared)
    await passTogether([first], 3_000)
    op.status = 'changed'
    op.silently = () => new Promise((resolve) => (answer = () => resolve(undefined)))
    await passTogether([first], 3_000)
    expect(op.silentChecks).toBe(1)
    if (!late) {
      void first.monitor.check()
      await first.world.advance(50)
      answer()
      await settle()
    }
    first.world.window.dispatchEvent(new Event('pagehide'))
    await settle()
    await late?.(answer)
    await passTogether([first], 1_000)
    signInAnew(op)
    const second = await openSpa(op, { ...shared, sessionState: 'two.salt' })
    await passTogether([second], 5_000)
    first.world.window.dispatchEvent(new Event('pageshow'))
    await passTogether([first, second], 5_000)
    expect([first, second].map(({ monitor }) => monitor.state)).toEqual(['alive', 'alive'])
  })

  it.each([
    ['login_required', (resolve: (nobody: undefined) => void) => resolve(undefined)],
    ['that the OP is away', (_: unknown, reject: (error: Error) => void) => reject(new Error('away'))],
  ])('does not count where a hidden tab rests: it says %s', async (_, says) => {
    const op = fakeOp()
    let answer = () => {}
    const { world, monitor, told } = await openSpa(op, { proved: true, tabs: false })
    await world.advance(3_000)
    op.status = 'changed'
    op.silently = () => new Promise((resolve, reject) => (answer = () => says(resolve, reject)))
    await world.advance(3_000)
    world.show('hidden')
    answer()
    await world.advance(1_000)
    signInAnew(op)
    await world.advance(60_000)
    world.show('visible')
    await world.advance(5_000)
    expect(monitor.state).toBe('alive')
    expect(new Set(told)).toEqual(new Set(['alive']))
  })
})
