import { expect, it } from 'vitest'
import { type BackchannelOptions, resolveBackchannelOptions } from '../../../src/op/delivery/backchannel-options.ts'

it('fills in the defaults, each where it was not given', () => {
  expect(resolveBackchannelOptions({ timeout: 2 })).toEqual({
    timeout: 2,
    horizon: 259_200,
    concurrency: 128,
    concurrencyPerRp: 8,
    ratePerRp: 250,
    budgets: 'registered',
    ratePerHost: 20,
    unansweredPerHour: 10,
    unansweredPerOrigin: 30,
    unansweredPerAddress: 100,
    stopTimeout: 5,
  })
  expect(resolveBackchannelOptions().timeout).toBe(5)
})

it.each<[keyof BackchannelOptions, number]>([
  ['timeout', 0],
  ['timeout', -1],
  ['timeout', Number.NaN],
  ['timeout', 601],
  ['horizon', 1],
  ['concurrency', 0],
  ['concurrency', 1.5],
  ['concurrencyPerRp', 0],
  ['ratePerRp', 0],
  ['ratePerRp', Number.POSITIVE_INFINITY],
  ['ratePerHost', Number.NaN],
  ['unansweredPerHour', 0],
  ['unansweredPerOrigin', 1.5],
  ['unansweredPerAddress', -1],
  ['stopTimeout', -1],
])('names the option that is wrong: %s %d', (name, value) => {
  expect(() => resolveBackchannelOptions({ [name]: value })).toThrow(TypeError)
  expect(() => resolveBackchannelOptions({ [name]: value })).toThrow(`backchannel.${name}`)
})

it('knows two answers to whom the budgets are for', () => {
  expect(resolveBackchannelOptions({ budgets: 'all' }).budgets).toBe('all')
  const options: object = { budgets: 'none' }
  expect(() => resolveBackchannelOptions(options)).toThrow('backchannel.budgets')
})

it('names an option that does not exist', () => {
  const options: object = { timeOut: 3 }
  expect(() => resolveBackchannelOptions(options)).toThrow('backchannel.timeOut')
})
