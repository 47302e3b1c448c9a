import { handlers } from 'lockstep/rp/next'
import { rp } from '../../../rp.js'

export const { GET, POST } = handlers(rp)
