import { defineConfig, type ViteUserConfig } from 'vitest/config'

// Whole programs and real browsers: one file after the other, so that they do not take each other's CPU.
const config: ViteUserConfig = defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})

export default config
