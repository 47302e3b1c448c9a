import { describe, expect, it } from 'vitest'
import { checkByRedirect } from '../../src/browser/check-by-redirect.ts'

describe('a look at the OP with the whole page', () => {
  it('is had once in ten minutes, so that it cannot go round in circles', () => {
    const { storage, world, goes } = aTab()
    expect(checkByRedirect(goes.one, { storage }, world)).toBe(true)
    world.time += 599_000
    expect(checkByRedirect(goes.one, { storage }, world)).toBe(false)
    world.time += 1_000
    expect(checkByRedirect(goes.one, { storage }, world)).toBe(true)
    expect(goes.count).toBe(2)
  })

  it('is not put off by a clock that is set back by a day', () => {
    const { storage, world, goes } = aTab()
    expect(checkByRedirect(goes.one, { storage }, world)).toBe(true)
    world.time -= 86_400_000
    expect(checkByRedirect(goes.one, { storage }, world)).toBe(true)
    expect(checkByRedirect(goes.one, { storage }, world)).toBe(false)
  })

  it('is had as often as the page wants', () => {
    const { storage, world, goes } = aTab()
    expect(checkByRedirect(goes.one, { storage, every: 60 }, world)).toBe(true)
    world.time += 60_000
    expect(checkByRedirect(goes.one, { storage, every: 60 }, world)).toBe(true)
    expect(() => checkByRedirect(goes.one, { storage, every: Number.NaN }, world)).toThrow(/^every/)
  })

  it('is not had where nothing can be remembered', () => {
    const { world, goes } = aTab()
    const storage = {
      getItem: () => null,
      setItem() {
        throw new DOMException('full', 'QuotaExceededError')
      },
    }
    expect(checkByRedirect(goes.one, { storage }, world)).toBe(false)
    expect(checkByRedirect(goes.one, {}, world)).toBe(false) // no sessionStorage here
    expect(goes.count).toBe(0)
  })
})

function aTab() {
  const entries = new Map<string, string>()
  const storage = {
    getItem: (key: string) => entries.get(key) ?? null,
    setItem: (key: string, value: string) => void entries.set(key, value),
  }
  const world = { time: 1_800_000_000_000, now: () => world.time }
  const goes = { count: 0, one: () => goes.count++ }
  return { storage, world, goes }
}
