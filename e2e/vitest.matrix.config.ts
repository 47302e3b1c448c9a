import { defineConfig, type ViteUserConfigFnObject } from 'vitest/config'

// The twelve cells, engines side by side: they mostly wait. `--mode full` runs the long forms (`npm run e2e:full`).
const config: ViteUserConfigFnObject = defineConfig(({ mode }) => ({
  test: {
    root: import.meta.dirname,
    include: ['matrix/*.test.ts', ...(mode === 'full' ? ['full/*.test.ts'] : [])],
    env: { E2E_FULL: String(mode === 'full') },
    pool: 'forks',
    maxWorkers: 4,
    testTimeout: mode === 'full' ? 600_000 : 240_000,
    hookTimeout: 240_000,
  },
}))

export default config
