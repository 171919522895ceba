/** The thread of a lane beside lane 0. */
import { workerData } from 'node:worker_threads';
import { releaseLowMemory } from '../linux/low-memory.ts';
import { DataLane, type DataLaneInput } from './data-lane.ts';

const input = workerData as DataLaneInput;
new DataLane(input).run();
input.port.close();
releaseLowMemory();
