import { fanOut } from './fan-out.ts'
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

const [name = '', ...options] = process.argv.slice(2)
const bench = benches[name]
if (!bench || options.some((option) => !['--json', '--short', '--big'].includes(option))) {
  console.error(`Usage: npm run bench -- ${Object.keys(benches).join('|')} [--json] [--short] [--big]`)
  process.exit(2)
}
const report = await bench({ short: options.includes('--short'), big: options.includes('--big') })
if (options.includes('--json')) console.log(JSON.stringify(report))
else printTable(report)
