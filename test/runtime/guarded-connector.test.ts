import { Socket } from 'node:net'
import { expect, it } from 'vitest'
import { addressPolicy } from '../../src/runtime/address-policy.ts'
import { guardedConnector } from '../../src/runtime/guarded-connector.ts'

it('calls a connection that is gone before its address was judged reset, and sends nothing over it', async () => {
  const socket = new Socket() // what is left of one that was reset: it has no address
  const connect = guardedConnector({
    policy: addressPolicy([]),
    resolve: async () => [],
    connect: () => (_options, callback) => callback(null, socket),
    proxyEnforces: false,
  })
  const options = { protocol: 'https:', hostname: 'rp.example', port: '443' }
  const answer = await new Promise((resolve) => connect(options, (error, opened) => resolve({ error, opened })))
  expect(answer).toMatchObject({ error: { code: 'ECONNRESET' }, opened: null })
  expect(socket.destroyed).toBe(true)
})
