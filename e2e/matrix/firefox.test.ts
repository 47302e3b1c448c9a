import { describe } from 'vitest'
import { describeCells } from '../support/cells.ts'

describe('firefox', () => describeCells('firefox'))
