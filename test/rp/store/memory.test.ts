import { describe, it } from 'vitest'
import { memoryStore } from '../../../src/rp-memory.ts'
import { rpStoreContract } from '../../../src/testing.ts'

describe('memoryStore', () => {
  rpStoreContract(
    { describe, it },
    { open: async () => ({ store: memoryStore(), dispose: async () => {} }), durable: false },
  )
})
