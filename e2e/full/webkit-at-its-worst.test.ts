import { describe } from 'vitest'
import { describeWorst } from '../support/worst.ts'

describe('webkit', () => describeWorst('webkit'))
