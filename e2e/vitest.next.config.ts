import { defineConfig, type ViteUserConfig } from 'vitest/config'

// The Next example, which has packages of its own: npm run test:next
const config: ViteUserConfig = defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['next/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})

export default config
