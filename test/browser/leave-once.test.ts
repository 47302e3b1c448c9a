import { expect, it } from 'vitest'
import { leaveOnce } from '../../src/browser/leave-once.ts'

function tab(storage?: () => Pick<Storage, 'getItem' | 'setItem'>) {
  const entries = new Map<string, string>()
  const kept = {
    getItem: (key: string) => entries.get(key) ?? null,
    setItem: (key: string, value: string) => void entries.set(key, value),
  }
  return (session: string, heardAt: number) => {
    let left = false
    leaveOnce({ session, heardAt }, () => (left = true), storage ?? (() => kept))
    return left
  }
}

it('leaves the page for each RP session that ends', () => {
  const end = tab()
  expect([end('s1', 0), end('s2', 600_000), end('s3', 1_200_000)]).toEqual([true, true, true])
})

it('never leaves twice for the same RP session, however late', () => {
  const end = tab()
  expect([end('s1', 0), end('s1', 1), end('s2', 2), end('s1', 3_600_000)]).toEqual([true, false, true, false])
})

it('leaves at most three times in a minute', () => {
  const end = tab()
  const left = [0, 10_000, 20_000, 30_000, 59_999, 60_000, 65_000, 70_000].map((at, i) => end(`s${i}`, at))
  expect(left).toEqual([true, true, true, false, false, true, false, true])
})

it('stays where nothing can be remembered', () => {
  const denied = () => {
    throw new DOMException('denied', 'SecurityError')
  }
  expect(tab(denied)('s1', 0)).toBe(false)
  expect(tab(() => ({ getItem: () => 'not json', setItem: denied }))('s1', 0)).toBe(false)
})
