import type { CipherSuite } from '@sealane/protocol';
import { ConfigError, forbidCoreDumps, oneLine } from '@sealane/tunnel';
import { readConfig, resolveConfig } from '../config-file.ts';
import { configPath, interfaceNameOf } from '../config-path.ts';
import { examineConfig } from '../doctor/config.ts';
import { bad, type Finding, good, hint } from '../doctor/finding.ts';
import { examinePath } from '../doctor/path.ts';
import { examineSystem } from '../doctor/system.ts';
import { CliError, errorLine, EXIT, type ExitCode } from '../errors.ts';
import { print, printJson, type Style, styleFor } from '../output/terminal.ts';
import { chooseTarget } from '../ping/target.ts';
import { Stop } from '../system/stop.ts';
import { pingPlan, refuseRunning, runningWith } from './ping.ts';

export interface DoctorOptions {
  readonly json?: boolean;
  /** Seconds for each answer of the other side. */
  readonly timeout: number;
  readonly cipher?: CipherSuite;
  readonly anyPermissions?: boolean;
}

const DEFAULT_MTU = 1_420;
const ECHO_SIZE = 56;

/** Looks at this computer and, if given, at a configuration; exit code 1 when something stands in the way. */
export async function doctor(given: string | undefined, options: DoctorOptions): Promise<ExitCode> {
  const stop = new Stop();
  const findings: Finding[] = [];
  try {
    findings.push(...examineSystem());
    if (given !== undefined) findings.push(...(await examine(given, options, stop)));
  } finally {
    stop.dispose();
  }
  if (options.json === true) await printJson(findings);
  else await print(findings.map((finding) => line(finding, styleFor(process.stdout))).join('\n'));
  return findings.some(({ state }) => state === 'bad') ? EXIT.failure : EXIT.ok;
}

async function examine(given: string, options: DoctorOptions, stop: Stop): Promise<readonly Finding[]> {
  forbidCoreDumps();
  const findings: Finding[] = [];
  try {
    const path = configPath(given);
    const config = await readConfig(path, options);
    findings.push(
      good('file', `${path} is valid${options.anyPermissions === true ? '' : ', and nobody else may read it'}`),
    );
    const { resolved } = await resolveConfig(config);
    // It may run under another name than its file's.
    const name = (await runningWith(config)) ?? (path === '-' ? '' : interfaceNameOf(path));
    findings.push(...(await examineConfig(config, resolved, name)));
    if (config.peers.every(({ endpoints }) => endpoints.length === 0)) {
      const what = 'not tried: no peer has an Endpoint, so this side waits for the others';
      return [...findings, hint('tunnel', what, 'try it from a peer')];
    }
    await refuseRunning(config, "'sealane ping ADDRESS' goes through it");
    const target = chooseTarget(config, path, undefined);
    const plan = await pingPlan(path, config, target, {
      count: 1,
      size: ECHO_SIZE,
      timeoutMs: options.timeout * 1_000,
    });
    findings.push(...(await examinePath(plan, config.interface.mtu ?? DEFAULT_MTU, stop)));
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    if (error.exitCode === EXIT.failure) findings.push(hint('tunnel', 'not tried', errorLine(error)));
    else if (error.cause instanceof ConfigError) findings.push(...error.cause.problems.map(asFinding));
    else findings.push(asFinding(error));
  }
  return findings;
}

/** Our messages say what is wrong and, behind the last colon or semicolon, what to do. */
function asFinding({ message }: { readonly message: string }): Finding {
  const text = oneLine(message);
  const cut = Math.max(text.lastIndexOf('; '), text.lastIndexOf(': '));
  return cut < 0 ? bad('file', text, 'correct it') : bad('file', text.slice(0, cut), text.slice(cut + 2));
}

function line({ state, subject, what, remedy }: Finding, style: Style): string {
  const mark = { good: style.green('ok  '), hint: style.yellow('hint'), bad: style.red('bad ') }[state];
  const head = `${mark} ${style.bold(subject.padEnd(11))} ${what}`;
  return remedy === undefined ? head : `${head}\n${' '.repeat(17)}${style.cyan(`-> ${remedy}`)}`;
}
