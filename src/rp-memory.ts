export { memoryStore } from './rp/store/memory.ts'
