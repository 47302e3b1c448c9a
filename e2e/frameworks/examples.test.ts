import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'esbuild'
import type { Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Chromium, launchChromium } from '../support/chromium.ts'
import { eventually } from '../support/eventually.ts'
import { openStage, type Play, type Stage } from '../support/stage.ts'

/* The examples of docs/open-tab.md as they stand there, in a component that is mounted and unmounted. */

const guide = readFileSync(join(import.meta.dirname, '../../docs/open-tab.md'), 'utf8')

const frameworks = [
  {
    name: 'React',
    app: `
      import { createElement, StrictMode } from 'react'
      import { createRoot } from 'react-dom/client'
      const Shown = () => createElement('p', { id: 'state' }, useSession())
      let root
      window.mount = () => {
        root = createRoot(document.querySelector('#app'))
        root.render(createElement(StrictMode, null, createElement(Shown)))
      }
      window.unmount = () => root.unmount()`,
  },
  {
    name: 'Vue',
    app: `
      import { createApp, h } from 'vue'
      let app
      window.mount = () => {
        app = createApp({ setup() { const state = useSession(); return () => h('p', { id: 'state' }, state.value) } })
        app.mount('#app')
      }
      window.unmount = () => app.unmount()`,
  },
] as const

const patience = { interval: 500, timeout: 20_000 }

let stage: Stage
let play: Play
let chromium: Chromium
beforeAll(async () => {
  stage = await openStage()
  play = stage.plays['cross-site']
  for (const { name, app } of frameworks) stage.files.set(`${name}.js`, await bundle(exampleIn(name) + app))
})
afterAll(() => stage?.close())
beforeEach(async () => {
  chromium = await launchChromium({ thirdPartyCookies: 'allowed' })
})
afterEach(async () => {
  await play.end('ada')
  await chromium?.close()
})

describe.each(frameworks)('in $name', ({ name }) => {
  it('a component shows that somebody is signed in, and that he is not any more when he signs out at the OP', async () => {
    const page = await open(name)
    await page.evaluate('mount()')
    await shows(page, 'alive')
    const op = await chromium.openTab(`${play.issuer}/session/end`)
    await op.locator('form [value=yes]').click()
    await shows(page, 'ended')
    await eventually(() => streams() === 0 || undefined, 'the stream to be closed')
    expect(await page.locator('iframe').count()).toBe(0)
  })

  it('a component that is unmounted leaves no frame, listener or stream behind', async () => {
    const page = await open(name)
    const devtools = await page.context().newCDPSession(page)
    await devtools.send('Performance.enable')
    const measure = async () => {
      await devtools.send('HeapProfiler.collectGarbage')
      const { metrics } = await devtools.send('Performance.getMetrics')
      const figure = (what: string) => metrics.find((metric) => metric.name === what)?.value ?? Number.NaN
      return { listeners: figure('JSEventListeners'), frames: figure('Frames') }
    }
    const mountAndUnmount = async () => {
      await page.evaluate('mount()')
      await shows(page, 'alive')
      await page.locator('iframe').first().waitFor({ state: 'attached' })
      await eventually(() => streams() === 1 || undefined, 'one stream')
      await page.evaluate('unmount()')
      await eventually(() => streams() === 0 || undefined, 'the stream to be closed')
      expect(await page.locator('iframe').count()).toBe(0)
    }
    await mountAndUnmount()
    const early = await measure()
    for (let round = 0; round < 20; round++) await mountAndUnmount()
    // one collection leaves some of it to the next
    await expect.poll(async () => (await measure()).listeners, patience).toBeLessThanOrEqual(early.listeners + 5)
    expect((await measure()).frames).toBeLessThanOrEqual(early.frames)
  })
})

/** Signs in and opens a page with nothing in it but the framework. */
async function open(name: string): Promise<Page> {
  const page = await chromium.openTab(`${play.url('mail')}/auth/login`)
  const html = `<!doctype html><html lang="en"><title>${name}</title><link rel="icon" href="data:,"><div id="app"></div><script src="/files/${name}.js"></script></html>`
  stage.files.set(`${name}.html`, html)
  await page.goto(`${play.url('mail')}/files/${name}.html`)
  return page
}

async function shows(page: Page, state: string): Promise<void> {
  await page.locator('#state').getByText(state, { exact: true }).waitFor()
}

function streams(): number {
  return stage.streams('mail', 'cross-site')
}

function exampleIn(name: string): string {
  const [, example] = new RegExp(`## In ${name}\\n\\n\`\`\`ts\\n([^]*?)\`\`\``).exec(guide) ?? []
  if (example === undefined) throw new Error(`docs/open-tab.md has no example for ${name}`)
  return example
}

async function bundle(contents: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents, loader: 'ts', resolveDir: import.meta.dirname },
    bundle: true,
    write: false,
    format: 'iife',
    platform: 'browser',
    target: 'es2022',
    define: {
      'process.env.NODE_ENV': '"development"', // where StrictMode mounts twice
      __VUE_OPTIONS_API__: 'true',
      __VUE_PROD_DEVTOOLS__: 'false',
      __VUE_PROD_HYDRATION_MISMATCH_DETAILS__: 'false',
    },
  })
  const [file] = outputFiles
  if (!file) throw new Error('esbuild wrote nothing')
  return file.text
}
