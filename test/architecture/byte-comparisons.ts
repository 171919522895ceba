/** Finds where code compares bytes one after another or through text, by the syntax tree: whatever the variables are called. */
import { parseSync } from 'oxc-parser';
import { isNode, walk, type Node } from './checker.ts';

const EQUALITY = new Set(['===', '!==', '==', '!=']);
/** Ends at the first difference, each of them. */
const COMPARERS = new Set([
  'equals',
  'compare',
  'isDeepStrictEqual',
  'deepEqual',
  'deepStrictEqual',
  'notDeepStrictEqual',
  'localeCompare',
]);
/** Give one element of an array. */
const ELEMENT_OF = /^(?:at|get(?:Big)?(?:Ui|I)nt\d+|read(?:Big)?U?Int\d*(?:LE|BE)?)$/;
/** Make text of bytes. */
const TEXT_OF =
  /^(?:join|toString|toLocaleString|toHex|toBase64|hex|hexlify|keyId|formatKey|fromCharCode|fromCodePoint|btoa|stringify|decode|String|digest|latin1Slice|utf8Slice|hexSlice)$/;
const SEARCHES = /^(?:every|some|find|findIndex|findLast|findLastIndex|indexOf|lastIndexOf|includes)$/;
const SECRET = /(?:key|mac[12]?|tag|cookie|secret|psk|shared|ephemeral|password)(?:s|bytes)?$/i;
const PUBLIC = /public(?:key|text)?$/i;

/** The text of each such comparison. */
export function byteComparisons(code: string): readonly string[] {
  const { program, errors } = parseSync('source.ts', code);
  if (errors[0] !== undefined) throw new SyntaxError(errors[0].message);
  const texts = textVariables(program);
  const isText = (node: Node): boolean => isTextCall(node) || (node.type === 'Identifier' && texts.has(nameOf(node)));
  const found: string[] = [];
  walk(program, undefined, '', (node, parent) => {
    if (!compares(node, isText)) return;
    // With the brackets and calls around it, so that it can be told from others.
    const whole = parent?.type === 'ArrowFunctionExpression' ? parent : node;
    found.push(code.slice(whole['start'] as number, whole['end'] as number).replaceAll(/\s+/g, ' '));
  });
  return found;
}

function compares(node: Node, isText: (node: Node) => boolean): boolean {
  const list = (key: string): Node[] => (Array.isArray(node[key]) ? node[key] : []).filter(isNode).map(bare);
  switch (node.type) {
    case 'BinaryExpression': {
      if (!EQUALITY.has(String(node['operator']))) return false;
      return isComparison(bare(node['left']), bare(node['right']), isText);
    }
    case 'SwitchStatement': {
      const on = bare(node['discriminant']);
      return list('cases').some(({ test }) => isNode(test) && isComparison(on, bare(test), isText));
    }
    case 'ImportSpecifier':
      return (
        isNode(node['imported']) && COMPARERS.has(nameOf(node['imported'])) && nameOf(node['imported']) !== 'equals'
      );
    case 'CallExpression': {
      const callee = bare(node['callee']);
      const called = nameOf(callee);
      const args = list('arguments');
      if (COMPARERS.has(called) && !isOwn(callee)) return true;
      if (called === 'is' && args.length === 2) return isComparison(args[0]!, args[1]!, isText);
      const of = callee.type === 'MemberExpression' ? bare(callee['object']) : undefined;
      if (of === undefined) return false;
      if (SEARCHES.test(called) && isSecret(of)) return true;
      if (/^(?:startsWith|endsWith|includes|indexOf|search|match)$/.test(called) && isTextOfBytes(of)) return true;
      // A table is searched by comparing.
      return /^(?:has|get)$/.test(called) && args.some((arg) => isTextCall(arg) && isSecret(firstOf(arg)));
    }
    default:
      return false;
  }
}

function isComparison(left: Node, right: Node, isText: (node: Node) => boolean): boolean {
  const sides = [left, right] as const;
  return sides.some((side, i) => {
    const other = sides[1 - i]!;
    if (isElement(side))
      return isSecret(ownerOf(side)) || (isConstant(other) ? isDifference(side) : !isFixed(side) || isElement(other));
    return isText(side) && !isPublic(side) && !isConstant(other) && !isPublic(other);
  });
}

/** One element of something, or what is computed from one. */
function isElement(node: Node): boolean {
  if (node.type === 'BinaryExpression' && /^[\^\-&|]$/.test(String(node['operator'])))
    return isElement(bare(node['left'])) || isElement(bare(node['right']));
  if (node.type === 'CallExpression') return ELEMENT_OF.test(nameOf(bare(node['callee'])));
  if (node.type !== 'MemberExpression' || node['computed'] !== true || isConstant(bare(node['object']))) return false;
  return typeof bare(node['property'])['value'] !== 'string';
}

/** `a[i] ^ b[i]`: zero when they are equal. */
function isDifference(node: Node): boolean {
  return (
    node.type === 'BinaryExpression' &&
    /^[\^-]$/.test(String(node['operator'])) &&
    isElement(bare(node['left'])) &&
    isElement(bare(node['right']))
  );
}

/** A private method, whatever it does: its own body is looked at. */
function isOwn(callee: Node): boolean {
  return isNode(callee['property']) && callee['property'].type === 'PrivateIdentifier';
}

/** `bytes[3]` or a field of a header, which no loop goes on from. */
function isFixed(node: Node): boolean {
  if (node.type === 'CallExpression') return nameOf(bare(node['callee'])) !== 'at';
  return node.type === 'MemberExpression' && bare(node['property']).type === 'Literal';
}

function isConstant(node: Node): boolean {
  if (node.type === 'Literal' || node.type === 'UnaryExpression') return true;
  if (node.type === 'TemplateLiteral') return (node['expressions'] as unknown[]).length === 0;
  if (node.type === 'CallExpression') return false;
  const name = nameOf(node);
  return (
    name === 'undefined' ||
    name === 'Infinity' ||
    /^[A-Z][A-Z0-9_]+$/.test(name) ||
    /^[A-Z][A-Z0-9_]+$/.test(nameOf(ownerOf(node)))
  );
}

function isTextCall(node: Node): boolean {
  if (node.type === 'TemplateLiteral') return (node['expressions'] as unknown[]).length > 0;
  return node.type === 'CallExpression' && TEXT_OF.test(nameOf(bare(node['callee'])));
}

function isTextOfBytes(node: Node): boolean {
  return isTextCall(node) && isSecret(firstOf(node));
}

/** Variables that hold such a text. */
function textVariables(program: unknown): ReadonlySet<string> {
  const names = new Set<string>();
  walk(program, undefined, '', (node) => {
    if (node.type !== 'VariableDeclarator' || !isNode(node['init'])) return;
    const init = bare(node['init']);
    if (init.type !== 'TemplateLiteral' && isTextCall(init) && !isPublic(init)) names.add(nameOf(node['id']));
  });
  return names;
}

/** What a text is made of: `x` in `hex(x)` and `x.join()`. */
function firstOf(node: Node): Node {
  const callee = bare(node['callee']);
  const [arg] = Array.isArray(node['arguments']) ? node['arguments'].filter(isNode) : [];
  const isMethod = /^(?:join|to[A-Z]\w+|\w+Slice)$/.test(nameOf(callee));
  return isMethod || arg === undefined ? bare(callee['object'] ?? callee) : bare(arg);
}

function isPublic(node: Node): boolean {
  return node.type === 'CallExpression' ? PUBLIC.test(nameOf(firstOf(node))) : PUBLIC.test(nameOf(node));
}

function isSecret(node: Node): boolean {
  return SECRET.test(nameOf(node)) && !PUBLIC.test(nameOf(node));
}

/** `x` in `x[i]`, `x.y` and `x.at(i)`. */
function ownerOf(node: Node): Node {
  if (node.type === 'CallExpression') return ownerOf(bare(node['callee']));
  return node.type === 'MemberExpression' ? bare(node['object']) : node;
}

/** The last name in an expression. */
function nameOf(value: unknown): string {
  if (!isNode(value)) return '';
  if (value.type === 'MemberExpression' && value['computed'] !== true) return nameOf(value['property']);
  return typeof value['name'] === 'string' ? value['name'] : '';
}

/** Without what says nothing at run time. */
function bare(value: unknown): Node {
  let node = value as Node;
  while (
    /^(?:TSNonNull|TSAs|TSSatisfies|Parenthesized|Chain)Expression$/.test(node?.type) &&
    isNode(node['expression'])
  )
    node = node['expression'];
  return isNode(node) ? node : { type: 'Nothing' };
}
