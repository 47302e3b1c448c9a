import { opOverhead } from './op-overhead.ts'
import { type BenchOptions, printTable, type Report } from './report.ts'
import { tab } from './tab.ts'

const benches: Readonly<Record<string, (options: BenchOptions) => Promise<Report>>> = { 'op-overhead': opOverhead, tab }

const [name = '', ...options] = process.argv.slice(2)
const bench = benches[name]
if (!bench || options.some((option) => option !== '--json' && option !== '--short')) {
  console.error(`Usage: npm run bench -- ${Object.keys(benches).join('|')} [--json] [--short]`)
  process.exit(2)
}
const report = await bench({ short: options.includes('--short') })
if (options.includes('--json')) console.log(JSON.stringify(report))
else printTable(report)
