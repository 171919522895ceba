import { createLog, type Log, type LogFormat, type LogLevel } from '@sealane/tunnel';
import { note } from './terminal.ts';

/** The log of a long-running command, on standard error. */
export function programLog(format: LogFormat, level: LogLevel): Log {
  return createLog({ format, level, write: note, prefix: 'sealane: ' });
}

export const textLog: Log = programLog('text', 'info');
