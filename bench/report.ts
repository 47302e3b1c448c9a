import { cpus, loadavg } from 'node:os'

/** One figure, ours beside a peer's, measured in the same run. */
export interface Figure {
  readonly id: string
  readonly unit: string
  readonly ours: number
  readonly peer: number | null
  /** What cannot be beaten on this machine, where there is such a thing. */
  readonly limit: number | null
  readonly ratioToPeer: number | null
  readonly ratioToLimit: number | null
  /** Lower and upper quartile of the ratio over the rounds. */
  readonly spread: readonly [number, number] | null
  /** The ratio to reach; `null` where there is none. */
  readonly goal: number | null
  /** Whether the goal is a floor or a ceiling. Default `at most`. */
  readonly goalIs?: 'at least' | 'at most'
  readonly met: boolean | null
}

/** How long a bench may take: `short` shows only that it runs, in seconds, and its figures mean nothing. */
export interface BenchOptions {
  readonly short: boolean
  /** The sizes that take an hour, in place of a tenth of them. */
  readonly big: boolean
  /** One part of a bench that has parts. Default: all. */
  readonly only?: string
}

/** What a bench found, and where. */
export interface Report {
  readonly name: string
  readonly date: string
  readonly node: string
  readonly cpu: string
  /** True when others were using the machine: figures move by more than they differ. */
  readonly noisy: boolean
  readonly figures: readonly Figure[]
}

/** Puts figures into a report of this machine at this moment; `loadBefore` is `loadavg()[0]` from before the bench. */
export function reportOf(name: string, figures: readonly Figure[], loadBefore: number): Report {
  const processors = cpus()
  return {
    name,
    date: new Date().toISOString(),
    node: process.version,
    cpu: `${processors.length} x ${processors[0]?.model ?? 'unknown'}`,
    noisy: loadBefore > processors.length / 2 || (loadavg()[0] ?? 0) > processors.length + 1,
    figures,
  }
}

/** The value below which `share` of the values lie. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (sorted.length - 1) * share
  const [low, high] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN]
  return low + (high - low) * (at - Math.floor(at))
}

/** Prints a report for people. */
export function printTable({ name, date, node, cpu, noisy, figures }: Report): void {
  console.log(`${name}, ${date}, Node ${node}, ${cpu}${noisy ? ', NOISY: others used the machine' : ''}`)
  console.table(
    Object.fromEntries(
      figures.map(({ id, unit, ours, peer, limit, ratioToPeer, ratioToLimit, spread, goal, goalIs, met }) => [
        id,
        {
          ours: round(ours),
          peer: cell(peer),
          limit: cell(limit),
          unit,
          'to peer': cell(ratioToPeer),
          'to limit': cell(ratioToLimit),
          quartiles: spread?.map(round).join(' to ') ?? '',
          goal: goal === null ? '' : `${goalIs ?? 'at most'} ${goal}`,
          met: met ?? '',
        },
      ]),
    ),
  )
}

function cell(value: number | null): number | '' {
  return value === null ? '' : round(value)
}

function round(value: number): number {
  return Number(value.toPrecision(3))
}
