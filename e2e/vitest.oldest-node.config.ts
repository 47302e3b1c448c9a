import { defineConfig, type ViteUserConfig } from 'vitest/config'

// The oldest Node there is support for, which is a package of its own: npm run test:oldest-node
const config: ViteUserConfig = defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['oldest-node/*.test.ts'],
    pool: 'forks',
    maxWorkers: 1,
    testTimeout: 60_000,
  },
})

export default config
