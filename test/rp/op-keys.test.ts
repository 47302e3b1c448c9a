import type { ServerResponse } from 'node:http'
import { compactVerify, exportJWK, generateKeyPair, SignJWT } from 'jose'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { opKeys } from '../../src/rp/op-keys.ts'
import { START } from '../../src/testing/rp-store-bench.ts'
import { listen, shut } from './support.ts'
import { createVirtualTime } from './virtual-time.ts'

const cleanup: (() => unknown)[] = []
afterEach(async () => {
  for (const step of cleanup.splice(0).reverse()) await step()
})

describe('an OP that needs longer for its keys than a Logout Token waits', () => {
  it('holds up one of them, and is not asked again before ten minutes are over', async () => {
    const { publicKey, privateKey } = await generateKeyPair('RS256')
    const keys = [{ ...(await exportJWK(publicKey)), kid: 'k', alg: 'RS256', use: 'sig' }]
    const asking: ServerResponse[] = []
    const { server, port } = await listen((_req, res) => void asking.push(res))
    cleanup.push(() => shut(server))
    const answer = async () => {
      await vi.waitFor(() => expect(asking).toHaveLength(1))
      asking.shift()?.setHeader('content-type', 'application/json').end(JSON.stringify({ keys }))
    }
    const time = createVirtualTime(START * 1000)
    const key = opKeys(`http://127.0.0.1:${port}/`, time, 60_000)
    const logoutToken = await new SignJWT({}).setProtectedHeader({ alg: 'RS256', kid: 'k' }).sign(privateKey)
    await Promise.all([compactVerify(logoutToken, key), answer()])
    await time.pass(601)
    const heldUp = compactVerify(logoutToken, key)
    await vi.waitFor(() => expect(asking).toHaveLength(1))
    await time.pass(2)
    await heldUp // with the keys that are known
    await answer()
    await vi.waitFor(async () => {
      await time.pass(5)
      await compactVerify(logoutToken, key)
    })
    expect(asking).toEqual([])
  })
})
