import { expect, it } from 'vitest'
import { alarm } from '../../src/runtime/alarm.ts'
import { createVirtualTime } from '../rp/virtual-time.ts'

it('sleeps until its time has come', async () => {
  const time = createVirtualTime(0)
  const sleep = alarm(time).sleepUntil(5_000)
  await time.pass(4)
  expect(time.waiting()).toBe(1)
  await time.pass(1)
  expect(await sleep).toBe(false)
})

it('wakes when it rings, and sleeps again afterwards', async () => {
  const time = createVirtualTime(0)
  const bell = alarm(time)
  const sleep = bell.sleep(Number.POSITIVE_INFINITY)
  bell.ring()
  expect(await sleep).toBe(true)
  const next = bell.sleep(1_000)
  expect(time.waiting()).toBe(1)
  await time.pass(1)
  expect(await next).toBe(false)
})

it('does not sleep at all when it rang while nobody slept, however often', async () => {
  const bell = alarm(createVirtualTime(0))
  bell.ring()
  bell.ring()
  expect(await bell.sleep(1_000)).toBe(true)
})

it('ends with the signal, and does not call that ringing', async () => {
  const time = createVirtualTime(0)
  const over = new AbortController()
  const sleep = alarm(time).sleep(1_000, over.signal)
  over.abort()
  expect(await sleep).toBe(false)
  expect(await alarm(time).sleep(1_000, over.signal)).toBe(false)
  expect(time.waiting()).toBe(0)
})

it('passes on that the clock failed', async () => {
  const broken = { now: () => 0, sleep: () => Promise.reject(new Error('no clock')) }
  await expect(alarm(broken).sleep(1)).rejects.toThrow('no clock')
})
