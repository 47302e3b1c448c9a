import { expect, it } from 'vitest'
import { loginThrottle } from '../../apps/server/throttle.ts'

function guessing(
  times: number,
  throttle: ReturnType<typeof loginThrottle>,
  username = 'ada',
  address = '192.0.2.1',
): void {
  for (let i = 0; i < times; i++) throttle.failed(username, address)
}

it('makes an address wait after five wrong passwords for one account', () => {
  let time = 0
  const throttle = loginThrottle({ now: () => time })
  guessing(4, throttle)
  expect(throttle.wait('ada', '192.0.2.1')).toBe(0)
  guessing(1, throttle)
  expect(throttle.wait('ada', '192.0.2.1')).toBe(300)
  time = 299_500
  expect(throttle.wait('ada', '192.0.2.1')).toBe(1)
  time = 300_000
  expect(throttle.wait('ada', '192.0.2.1')).toBe(0)
})

it('locks nobody else out', () => {
  const throttle = loginThrottle({ now: () => 0 })
  guessing(9, throttle)
  expect(throttle.wait('ada', '192.0.2.2')).toBe(0)
  expect(throttle.wait('grace', '192.0.2.1')).toBe(0)
})

it('makes an address wait that tries many accounts', () => {
  const throttle = loginThrottle({ now: () => 0 })
  for (let i = 0; i < 50; i++) throttle.failed(`user-${i}`, '192.0.2.1')
  expect(throttle.wait('grace', '192.0.2.1')).toBe(300)
})

it('forgets the wrong passwords of whoever signs in', () => {
  const throttle = loginThrottle({ now: () => 0 })
  guessing(4, throttle)
  throttle.succeeded('ada', '192.0.2.1')
  guessing(4, throttle)
  expect(throttle.wait('ada', '192.0.2.1')).toBe(0)
})

it('keeps a bounded number of entries', () => {
  const throttle = loginThrottle({ now: () => 0 })
  guessing(5, throttle, 'first', '192.0.2.9')
  for (let i = 0; i < 10_000; i++) throttle.failed('x', `address-${i}`)
  expect(throttle.wait('first', '192.0.2.9')).toBe(0)
})
