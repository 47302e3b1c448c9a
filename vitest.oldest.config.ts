import { mergeConfig, type ViteUserConfig } from 'vitest/config'
import usual from './vitest.config.ts'

/** The OP's tests once more, against the oldest oidc-provider of the peer range instead of the newest. */
const config: ViteUserConfig = {
  ...mergeConfig(usual, { resolve: { alias: [{ find: /^oidc-provider$/, replacement: 'oidc-provider-oldest' }] } }),
}
config.test = { ...config.test, include: ['test/op/*.test.ts', 'test/op/{clients,logout,secrets}/*.test.ts'] }

export default config
