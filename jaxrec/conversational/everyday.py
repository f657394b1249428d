"""Words that are said every day: alone they name no title, unless they are written like one."""

EVERYDAY = frozenset(
    """
    a an the this that these those it its i me my mine we us our ours you your yours he him his she her hers they them
    their theirs who whom whose which what when where why how here there now then ever never always often sometimes
    and or but nor so if because while though although than as at by for from in into of off on onto out over under up
    down to with without about after again before behind below between during near since through until upon
    am is are was were be been being do does did done doing have has had having can could may might must shall should
    will would dont doesnt didnt isnt arent wasnt cant couldnt wont wouldnt im ive id ill youre youve youll its thats
    lets go goes going gone went come comes came coming get gets got getting give gives gave given make makes made take
    takes took taken see sees saw seen seeing look looks looked looking watch watches watched watching know knows knew
    known think thinks thought say says said tell tells told ask asks asked want wants wanted need needs needed like
    likes liked love loves loved loving hate hates hated enjoy enjoys enjoyed try tries tried find finds found feel
    feels felt hear hears heard hope hopes wish wait stop start keep help play plays played show shows let put run walk
    talk call leave left meet met live lives die dies remember forget believe guess recommend recommends recommended
    recommendation recommendations suggest suggested suggestion suggestions prefer check
    yes yeah yep no nope not none ok okay sure right wrong well please thanks thank hello hi hey bye goodbye welcome
    sorry wow oh ah haha lol maybe perhaps really very quite too also just only even still yet already almost enough
    much many more most less least few some any all both each every other another same such own one two three four five
    six seven eight nine ten first second third last next once twice good better best bad worse worst great nice cool
    fun funny fine big small little old new young long short high low hard easy fast slow hot cold early late real true
    happy sad scary dark light free full open sure different similar interesting amazing awesome excellent favorite
    favourite popular classic recent modern beautiful pretty weird crazy strange perfect special
    man men woman women boy boys girl girls kid kids child children baby family mother mom father dad son daughter
    brother sister wife husband friend friends people person guy guys folks name names home house car cars day days
    night nights week weekend month year years time times today tonight tomorrow yesterday morning life world way thing
    things something anything nothing everything someone anyone nobody everyone place part end lot kind kinds sort type
    types bit idea question story stories book books music song songs game games money work job school
    movie movies film films cinema theater theatre series tv actor actors actress actresses director directors star
    stars cast scene scenes plot trailer genre genres title titles character characters role sequel netflix
    action adventure animation animated biography comedy comedies crime documentary documentaries drama dramas fantasy
    historical history horror musical mystery romance romantic science fiction scifi sci fi sport sports spy superhero
    suspense thriller thrillers war western
    super fantastic switch mission college school holiday holidays haunted hollywood oscar oscars match level else force
    else away alone together forever tired busy boring serious romance romances mission case money power secret trouble
    invisible possible impossible missing losing lost found stream streaming
    christmas halloween red blue black white green signs speed heat drive rush brave her big elf
    """.split()
)
