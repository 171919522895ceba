/** A man page (man(7) macros) of a described command tree. */

export function manPage(tree) {
  const lines = [
    `.TH ${tree.name.toUpperCase()} 1 "" "Sealane" "User commands"`,
    '.SH NAME',
    `${tree.name} \\- ${escape(tree.description.replace(/\.$/, ''))}`,
    '.SH SYNOPSIS',
    '.nf',
    ...leaves(tree).map(
      ({ usage }) => `\\fB${escape(usage.split(' ')[0])}\\fR ${escape(usage.split(' ').slice(1).join(' '))}`,
    ),
    '.fi',
    '.SH COMMANDS',
    ...leaves(tree).flatMap(commandLines),
    ...tree.notes.flatMap(({ title, lines: content }) => [`.SH ${title.toUpperCase()}`, ...block(content)]),
    '.SH SEE ALSO',
    `.BR ${tree.name === 'sealane' ? 'sealaned' : 'sealane'} (1),`,
    '.BR wg (8),',
    '.BR wg\\-quick (8)',
  ];
  return `${lines.join('\n')}\n`;
}

/** The commands that do something; groups such as `peer` only hold others. */
export function leaves(tree) {
  return tree.commands.flatMap((command) => (command.commands.length > 0 ? leaves(command) : [command]));
}

function commandLines(command) {
  return [
    `.SS ${escape(command.path.slice(1).join(' '))}`,
    `${sentence(command.description)}`,
    ...command.arguments.flatMap(({ name, description }) => ['.TP', `.I ${escape(name)}`, text(description || name)]),
    ...command.options.flatMap((option) => ['.TP', `.B ${escape(option.flags)}`, text(optionText(option))]),
    ...command.notes.flatMap(({ title, lines }) => ['.PP', `${escape(title)}:`, ...block(lines)]),
  ];
}

function optionText({ description, choices, default: value }) {
  const extra = [
    choices.length > 0 ? `one of ${choices.join(', ')}` : '',
    value === undefined ? '' : `default ${value}`,
  ];
  const notes = extra.filter((note) => note !== '').join('; ');
  return notes === '' ? description : `${description} (${notes})`;
}

function block(lines) {
  return ['.RS', '.nf', ...lines.map(text), '.fi', '.RE'];
}

function sentence(words) {
  return text(`${words[0].toUpperCase()}${words.slice(1)}${words.endsWith('.') ? '' : '.'}`);
}

/** A line that begins with a dot or an apostrophe would be a request. */
function text(words) {
  const escaped = escape(words);
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}

function escape(words) {
  return words.replaceAll('\\', '\\e').replaceAll('-', '\\-');
}
