import { dirname, join } from 'node:path/posix';
import { parseSync } from 'oxc-parser';

/** Source texts by their path in the repository, such as `packages/protocol/src/noise.ts`. */
export type Sources = ReadonlyMap<string, string>;

const MAX_LINES = 450;

const SIBLINGS: Readonly<Record<string, readonly string[]>> = {
  '@sealane/protocol': [],
  '@sealane/netstack': [],
  '@sealane/tunnel': ['@sealane/protocol', '@sealane/netstack'],
  sealane: ['@sealane/tunnel', '@sealane/protocol'],
  sealaned: ['@sealane/tunnel', '@sealane/protocol'],
};

const PACKAGE_OF: Readonly<Record<string, string>> = {
  protocol: '@sealane/protocol',
  netstack: '@sealane/netstack',
  tunnel: '@sealane/tunnel',
  client: 'sealane',
  server: 'sealaned',
};

/** The pure packages and the only third-party imports that each may make. */
const PURE: Readonly<Record<string, RegExp>> = { protocol: /^@noble\//, netstack: /^$/ };

const IMPURE_GLOBALS: ReadonlySet<string> = new Set([
  'Buffer',
  'Date',
  'console',
  'crypto',
  'fetch',
  'globalThis',
  'performance',
  'process',
  'queueMicrotask',
  'require',
  'setImmediate',
  'setInterval',
  'setTimeout',
]);

const KOFFI_MAY = /^packages\/tunnel\/src\/(linux\/|crypto\/native\.ts$)/;

/** Every breach of the house's rules in these sources, one line each: `path: what is wrong`. */
export function breaches(sources: Sources): readonly string[] {
  const found: string[] = [];
  const graph = new Map<string, readonly string[]>();
  for (const [path, text] of sources) {
    const directory = path.split('/')[1] ?? '';
    const program = parse(path, text);
    const say = (what: string): void => void found.push(`${path}: ${what}`);

    const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0);
    if (lines > MAX_LINES) say(`has ${lines} lines, more than ${MAX_LINES}`);

    for (const specifier of program.imports) {
      const problem = specifier.startsWith('.')
        ? relativeBreach(path, specifier)
        : packageBreach(path, directory, specifier);
      if (problem !== undefined) say(problem);
    }
    if (directory in PURE) for (const name of impureNames(program.body)) say(`uses ${name}`);

    const loaded = [...program.loads].filter((specifier) => specifier.startsWith('.'));
    graph.set(
      path,
      loaded.map((specifier) => join(dirname(path), specifier)),
    );
  }
  for (const cycle of cycles(graph)) found.push(`${cycle[0]}: circular import ${[...cycle, cycle[0]].join(' -> ')}`);
  return found;
}

function relativeBreach(path: string, specifier: string): string | undefined {
  const home = path.split('/').slice(0, 3).join('/');
  const target = join(dirname(path), specifier);
  if (!target.startsWith(`${home}/`)) return `imports '${specifier}', which lies outside ${home}`;
  return specifier.endsWith('.ts') ? undefined : `imports '${specifier}' without its .ts ending`;
}

function packageBreach(path: string, directory: string, specifier: string): string | undefined {
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  if (name in SIBLINGS) {
    const own = PACKAGE_OF[directory] ?? '';
    return SIBLINGS[own]?.includes(name) === true ? undefined : `${directory} must not import ${name}`;
  }
  const allowed = PURE[directory];
  if (allowed !== undefined && !allowed.test(specifier))
    return `${directory} is pure and must not import '${specifier}'`;
  if (name === 'koffi' && !KOFFI_MAY.test(path))
    return 'must not import koffi: only tunnel/src/linux and tunnel/src/crypto/native.ts do';
  return undefined;
}

/** Each strongly connected group of files that import one another, by depth-first search. */
function cycles(graph: ReadonlyMap<string, readonly string[]>): readonly (readonly string[])[] {
  const found: string[][] = [];
  const done = new Set<string>();
  const trail: string[] = [];
  const visit = (path: string): void => {
    const start = trail.indexOf(path);
    if (start >= 0) found.push(trail.slice(start));
    if (start >= 0 || done.has(path)) return;
    trail.push(path);
    for (const next of graph.get(path) ?? []) visit(next);
    trail.pop();
    done.add(path);
  };
  for (const path of graph.keys()) visit(path);
  return found;
}

interface Program {
  readonly imports: ReadonlySet<string>;
  /** Those of the imports that remain at run time: `import type` and `export type` are erased. */
  readonly loads: ReadonlySet<string>;
  readonly body: unknown;
}

function parse(path: string, text: string): Program {
  const { program, module, errors } = parseSync(path, text);
  const error = errors[0];
  if (error !== undefined) throw new SyntaxError(`${path}: ${error.message}`);
  const imports = new Set<string>();
  const loads = new Set<string>();
  const add = (specifier: string, erased: boolean): void => {
    imports.add(specifier);
    if (!erased) loads.add(specifier);
  };
  const isErased = (start: number, end: number): boolean => /^(import|export)\s+type\b/.test(text.slice(start, end));
  for (const { start, end, moduleRequest } of module.staticImports) add(moduleRequest.value, isErased(start, end));
  for (const { start, end, entries } of module.staticExports) {
    for (const { moduleRequest } of entries) if (moduleRequest) add(moduleRequest.value, isErased(start, end));
  }
  for (const { moduleRequest } of module.dynamicImports) {
    add(text.slice(moduleRequest.start, moduleRequest.end).replace(/^['"`]|['"`]$/g, ''), false);
  }
  return { imports, loads, body: program };
}

export type Node = Readonly<Record<string, unknown>> & { readonly type: string };

/** Names of ambient clocks, randomness and I/O that a file refers to and does not itself declare. */
function impureNames(program: unknown): readonly string[] {
  const declared = new Set<string>();
  const used = new Set<string>();
  walk(program, undefined, '', (node, parent, key) => {
    if (node.type === 'MetaProperty') used.add('import.meta');
    if (node.type === 'ObjectPattern') for (const name of shorthandNames(node)) declared.add(name);
    if (node.type !== 'Identifier') return;
    const name = String(node['name']);
    if (isBinding(parent, key)) declared.add(name);
    else if (name === 'Math' && memberName(parent) === 'random') used.add('Math.random');
    else if (IMPURE_GLOBALS.has(name) && !isMerelyAName(parent, key)) used.add(name);
  });
  return [...used].filter((name) => !declared.has(name)).toSorted();
}

/** Every node below a value, before those within it. */
export function walk(
  value: unknown,
  parent: Node | undefined,
  key: string,
  visit: (node: Node, parent: Node | undefined, key: string) => void,
): void {
  if (Array.isArray(value)) for (const item of value) walk(item, parent, key, visit);
  if (!isNode(value)) return;
  visit(value, parent, key);
  for (const [childKey, child] of Object.entries(value)) walk(child, value, childKey, visit);
}

export function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

function isBinding(parent: Node | undefined, key: string): boolean {
  if (parent === undefined) return false;
  if (['id', 'params', 'param', 'local'].includes(key)) return true;
  if (parent.type === 'ArrayPattern' || parent.type === 'RestElement') return true;
  return parent.type === 'AssignmentPattern' && key === 'left';
}

/** The variables that `{ a, b: c }` on the left of an assignment names. */
function shorthandNames(pattern: Node): readonly string[] {
  const properties: readonly unknown[] = Array.isArray(pattern['properties']) ? pattern['properties'] : [];
  const values = properties.filter(isNode).map((property) => property['value']);
  return values.filter(isNode).map((value) => String(value['name']));
}

/** Whether the identifier is a property's or a label's name and so refers to no variable. */
function isMerelyAName(parent: Node | undefined, key: string): boolean {
  if (parent === undefined || parent['computed'] === true) return false;
  if (parent.type === 'TSQualifiedName') return key === 'right';
  return ['property', 'key', 'imported', 'exported', 'label'].includes(key);
}

function memberName(parent: Node | undefined): unknown {
  if (parent?.type !== 'MemberExpression' || !isNode(parent['property'])) return undefined;
  return parent['property']['name'] ?? parent['property']['value'];
}
