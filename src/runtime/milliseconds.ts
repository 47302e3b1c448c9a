export const second = 1_000
export const minute = 60_000
export const hour = 3_600_000
