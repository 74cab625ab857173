// BullMQ under the same load as `causeway bench queue`: jobs that do nothing, enqueued in bulk, drained by
// one process, then picked up one at a time by an idle worker. Prints one JSON object.
//
//   node bullmq.mjs PORT JOBS BATCH CONCURRENCY
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'

const [port, jobs, batch, concurrency] = process.argv.slice(2).map(Number)
const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null }
const PICKUPS = 1000
const body = 'x'.repeat(200)
const result = 'y'.repeat(300)
const redis = new Redis(connection)

// The microseconds that Redis spent on commands, and how many it ran: a script's own commands too.
async function stats() {
  const text = await redis.info('commandstats')
  const [used] = (await redis.info('memory')).match(/used_memory:\d+/)
  const sum = { commands: 0, busy: 0, calls: 0, memory: Number(used.split(':')[1]) }
  for (const [, name, calls, usec] of text.matchAll(/cmdstat_(\S+):calls=(\d+),usec=(\d+)/g)) {
    if (['info', 'config|resetstat'].includes(name)) continue
    sum.commands += Number(calls)
    // A script's time contains that of its commands; what it calls is told apart below.
    if (/^(evalsha|eval|bzpopmin|hello|client)/.test(name)) {
      sum.busy += Number(usec)
      sum.calls += Number(calls)
    }
  }
  return sum
}

function ended(worker, count) {
  return new Promise((resolve) => {
    let left = count
    worker.on('completed', () => --left === 0 && resolve())
  })
}

const queue = new Queue('bench', { connection })
await queue.waitUntilReady()
const before = await stats()
let began = performance.now()
for (let first = 0; first < jobs; first += batch) {
  const size = Math.min(batch, jobs - first)
  await queue.addBulk(Array.from({ length: size }, () => ({ name: 'j', data: body })))
}
const enqueued = (performance.now() - began) / 1000
const between = await stats()

began = performance.now()
const drainer = new Worker('bench', async () => result, { connection, concurrency })
await ended(drainer, jobs)
const drained = (performance.now() - began) / 1000
const after = await stats()
await drainer.close()

const waits = []
let submitted = 0
let picked = null
const idle = new Worker('bench', async () => {
  waits.push(performance.now() - submitted)
  picked()
  return result
}, { connection, concurrency: 1 })
await idle.waitUntilReady()
for (let number = 0; number < PICKUPS; number++) {
  const done = new Promise((resolve) => idle.once('completed', resolve))
  const taken = new Promise((resolve) => (picked = resolve))
  // The worker is about to block: let its call reach the store.
  await new Promise((resolve) => setTimeout(resolve, 1))
  submitted = performance.now()
  await Promise.all([queue.add('j', body), taken, done])
}
await idle.close()
await queue.close()
await redis.quit()
waits.sort((a, b) => a - b)
const rank = (share) => waits[Math.ceil(waits.length * share) - 1]
console.log(JSON.stringify({
  jobs,
  enqueued_per_s: jobs / enqueued,
  drained_per_s: jobs / drained,
  redis_commands_per_job: (after.commands - before.commands) / jobs,
  redis_cpu_us_per_job: (after.busy - before.busy) / jobs,
  redis_cpu_us_per_enqueue: (between.busy - before.busy) / jobs,
  redis_bytes_per_queued_job: (between.memory - before.memory) / jobs,
  pickup_p50_ms: rank(0.5),
  pickup_p99_ms: rank(0.99),
}))
