import { expect, it } from 'vitest'
import { messageOf } from '../../src/runtime/message-of.ts'

it('says what happened and why, in one clean line of at most 200 characters [T24]', () => {
  expect(messageOf(new Error('it failed', { cause: new Error('red\u001b[31m\nline') }))).toBe(
    'it failed: red [31m line',
  )
  expect(messageOf('just text')).toBe('just text')
  expect(messageOf(new Error('x'.repeat(500)))).toHaveLength(200)
})
