import { defineConfig, type ViteUserConfig } from 'vitest/config'

// The examples for React and Vue, which have packages of their own: npm run test:frameworks
const config: ViteUserConfig = defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['frameworks/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 120_000,
    hookTimeout: 60_000,
  },
})

export default config
