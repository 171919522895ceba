/** A commander program as plain data: what manuals and completions need of it. */

/** Defaults that depend on who runs this and where say nothing to others. */
const PERSONAL = /^(\/root|\/home|\/var\/lib|\/tmp)\b/;

export function describe(command, path = []) {
  const words = [...path, command.name()];
  return {
    name: command.name(),
    path: words,
    description: command.description(),
    usage: `${words.join(' ')} ${command.usage()}`.trim(),
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      description: argument.description,
      required: argument.required,
    })),
    options: command.options.filter((option) => !option.hidden).map(describeOption),
    notes: notesOf(command),
    commands: command.commands.map((child) => describe(child, words)),
  };
}

function describeOption(option) {
  const value = option.defaultValueDescription ?? option.defaultValue;
  const isPlain = value === undefined || value === false || value === true || value === 'none';
  return {
    flags: option.flags,
    short: option.short,
    long: option.long,
    takesValue: option.required || option.optional,
    choices: option.argChoices ?? [],
    description: option.description,
    default: isPlain || PERSONAL.test(String(value)) ? undefined : String(value),
  };
}

/** What stands behind the help: sections such as `Examples:` and `Exit codes:` with their lines. */
function notesOf(command) {
  let text = '';
  command.configureOutput({
    ...command.configureOutput(),
    writeOut: (part) => (text += part),
    getOutHelpWidth: () => 200,
  });
  command.outputHelp();
  const sections = [];
  for (const line of text.split('\n')) {
    if (/^\S.*:$/.test(line)) sections.push({ title: line.slice(0, -1), lines: [] });
    else if (sections.length > 0 && line.trim() !== '') sections.at(-1).lines.push(line.trim());
  }
  return sections.filter(
    ({ title }) => !['Options', 'Commands', 'Arguments'].includes(title) && !title.startsWith('Usage'),
  );
}
