/**
 * Names of nftables tables that belong to an interface. nftables takes fewer characters than a name of an interface has: `_` and two
 * hexadecimal digits stand for one of the others, and for a `_` that such digits follow, so that no two interfaces share a table.
 */
export function tableName(prefix: string, interfaceName: string): string {
  const escape = (char: string): string => `_${char.charCodeAt(0).toString(16)}`;
  return prefix + interfaceName.replaceAll(/[^A-Za-z0-9_.-]|_(?=[0-9a-f]{2})/g, escape);
}

/** The interface that such a table is for; undefined for a table that begins otherwise. */
export function interfaceOfTable(prefix: string, table: string): string | undefined {
  if (!table.startsWith(prefix)) return undefined;
  const unescape = (_: string, digits: string): string => String.fromCharCode(Number.parseInt(digits, 16));
  return table.slice(prefix.length).replaceAll(/_([0-9a-f]{2})/g, unescape);
}
