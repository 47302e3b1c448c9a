import { defineConfig, type ViteUserConfig } from 'vitest/config'

/** Black-box tests: they start the server program, or an app, and speak HTTP to it, in Chromium where a browser takes part. */
const config: ViteUserConfig = defineConfig({
  test: {
    root: import.meta.dirname,
    include: ['{op,rp}/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})

export default config
