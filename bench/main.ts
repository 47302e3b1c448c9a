import { parseArgs } from 'node:util'
import { fanOut, fanOutParts } from './fan-out.ts'
import { opOverhead } from './op-overhead.ts'
import { type BenchOptions, printTable, type Report } from './report.ts'
import { rpLogout } from './rp-logout.ts'
import { scale } from './scale.ts'
import { streams } from './streams.ts'
import { tab } from './tab.ts'

const benches: Readonly<Record<string, (options: BenchOptions) => Promise<Report>>> = {
  'fan-out': fanOut,
  'op-overhead': opOverhead,
  'rp-logout': rpLogout,
  scale,
  streams,
  tab,
}

const usage = `Usage: npm run bench -- ${Object.keys(benches).join('|')} [--json] [--short] [--big]
       npm run bench -- fan-out --only ${fanOutParts.join('|')}`

/** What the command line asks for; `undefined` when it cannot be understood. */
function asked(): { bench(options: BenchOptions): Promise<Report>; options: BenchOptions; json: boolean } | undefined {
  const flag = { type: 'boolean', default: false } as const
  const options = { json: flag, short: flag, big: flag, only: { type: 'string' } } as const
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options })
    const { json, short, big } = values
    const [name = '', ...more] = positionals
    const only = fanOutParts.find((part) => part === values.only)
    const bench = benches[name]
    if (!bench || more.length > 0 || only !== values.only || (only && name !== 'fan-out')) return undefined
    return { bench, json, options: { short, big, ...(only && { only }) } }
  } catch {
    return undefined // an option that there is not
  }
}

const what = asked()
if (!what) {
  console.error(usage)
  process.exit(2)
}
const report = await what.bench(what.options)
if (what.json) console.log(JSON.stringify(report))
else printTable(report)
