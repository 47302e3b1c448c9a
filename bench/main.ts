import { opOverhead } from './op-overhead.ts'
import { printTable, type Report } from './report.ts'

const benches: Readonly<Record<string, () => Promise<Report>>> = { 'op-overhead': opOverhead }

const [name = '', ...options] = process.argv.slice(2)
const bench = benches[name]
if (!bench || options.some((option) => option !== '--json')) {
  console.error(`Usage: npm run bench -- ${Object.keys(benches).join('|')} [--json]`)
  process.exit(2)
}
const report = await bench()
if (options.includes('--json')) console.log(JSON.stringify(report))
else printTable(report)
